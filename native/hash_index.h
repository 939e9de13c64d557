// HashIndex: finds 32-bit numbers by the hash of what they stand for.
//
// Open addressing with linear probing; removal closes the gap, so there are no tombstones and a
// lookup's cost does not grow with the table's age. What equality means is the caller's to say, so
// nothing is stored twice.
//
// Hashes are seeded with the place of their table in memory, which whoever chooses the strings does
// not know.
#ifndef MILLRACE_NATIVE_HASH_INDEX_H_
#define MILLRACE_NATIVE_HASH_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace millrace {

inline uint64_t MixBits(uint64_t bits) {
  bits ^= bits >> 32;
  bits *= 0xd6e8feb86659fd93u;
  bits ^= bits >> 32;
  bits *= 0xd6e8feb86659fd93u;
  return bits ^ (bits >> 32);
}

inline uint32_t HashBytes(const void* bytes, size_t length, uint64_t seed) {
  const auto* at = static_cast<const unsigned char*>(bytes);
  uint64_t hash = MixBits(seed ^ length);
  uint64_t word;
  for (; length >= 8; at += 8, length -= 8) {
    std::memcpy(&word, at, 8);
    hash = MixBits(hash ^ word);
  }
  word = 0;
  if (length > 0) std::memcpy(&word, at, length);
  return static_cast<uint32_t>(MixBits(hash ^ word));
}

class HashIndex {
 public:
  static constexpr uint32_t kNone = ~0u;

  uint64_t seed() const { return reinterpret_cast<uintptr_t>(this); }

  // The number with this hash for which equals(number) holds, or kNone.
  template <typename Equals>
  uint32_t Find(uint32_t hash, Equals equals) const {
    if (slots_.empty()) return kNone;
    for (size_t at = hash & mask_; slots_[at].number != kNone; at = (at + 1) & mask_) {
      if (slots_[at].hash == hash && equals(slots_[at].number)) return slots_[at].number;
    }
    return kNone;
  }

  // REQUIRES: the number is not in the table and is not kNone.
  void Insert(uint32_t hash, uint32_t number) {
    if ((size_ + 1) * 4 > slots_.size() * 3) Resize(slots_.empty() ? 16 : slots_.size() * 2);
    Place({hash, number});
    size_++;
  }

  // REQUIRES: it is in the table.
  void Erase(uint32_t hash, uint32_t number) {
    size_t hole = hash & mask_;
    while (slots_[hole].number != number) hole = (hole + 1) & mask_;
    for (size_t at = (hole + 1) & mask_; slots_[at].number != kNone; at = (at + 1) & mask_) {
      // What stands between its home and here must not move in front of its home.
      const size_t home = slots_[at].hash & mask_;
      if (((at - home) & mask_) < ((at - hole) & mask_)) continue;
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole].number = kNone;
    size_--;
    if (slots_.size() > 64 && size_ * 8 < slots_.size()) Resize(slots_.size() / 4);
  }

  size_t size() const { return size_; }
  size_t bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    uint32_t hash;
    uint32_t number;
  };

  void Place(Slot slot) {
    size_t at = slot.hash & mask_;
    while (slots_[at].number != kNone) at = (at + 1) & mask_;
    slots_[at] = slot;
  }

  void Resize(size_t capacity) {
    std::vector<Slot> old(capacity, Slot{0, kNone});
    old.swap(slots_);
    mask_ = capacity - 1;
    for (const Slot& slot : old) {
      if (slot.number != kNone) Place(slot);
    }
  }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  size_t size_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_HASH_INDEX_H_

// Occupancy: which slots of a ring hold anything; finds the next one in a handful of instructions.
//
// One bit per slot, and above it one summary bit per word of 64 slots, so that empty time is
// skipped without looking at it: a search reads at most two words and the summary (two words for
// 8192 slots).
#ifndef MILLRACE_NATIVE_OCCUPANCY_H_
#define MILLRACE_NATIVE_OCCUPANCY_H_

#include <cstdint>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

namespace millrace {

inline unsigned CountTrailingZeros(uint64_t word) {
#if defined(_MSC_VER)
  unsigned long at;
  _BitScanForward64(&at, word);
  return static_cast<unsigned>(at);
#else
  return static_cast<unsigned>(__builtin_ctzll(word));
#endif
}

template <unsigned kSlots>
class Occupancy {
 public:
  static constexpr unsigned kNone = ~0u;

  void Set(unsigned slot) {
    words_[slot >> 6] |= uint64_t{1} << (slot & 63);
    summary_[slot >> 12] |= uint64_t{1} << ((slot >> 6) & 63);
  }

  void Clear(unsigned slot) {
    if ((words_[slot >> 6] &= ~(uint64_t{1} << (slot & 63))) == 0) {
      summary_[slot >> 12] &= ~(uint64_t{1} << ((slot >> 6) & 63));
    }
  }

  bool Has(unsigned slot) const { return (words_[slot >> 6] >> (slot & 63)) & 1; }

  // The first occupied slot in [from, end), or kNone. REQUIRES: end <= kSlots.
  unsigned Next(unsigned from, unsigned end) const {
    if (from >= end) return kNone;
    unsigned word = from >> 6;
    uint64_t bits = words_[word] & (~uint64_t{0} << (from & 63));
    if (bits == 0) {
      word = NextWord(word + 1);
      if (word == kNone) return kNone;
      bits = words_[word];
    }
    const unsigned slot = (word << 6) + CountTrailingZeros(bits);
    return slot < end ? slot : kNone;
  }

 private:
  static constexpr unsigned kWords = kSlots / 64;
  static constexpr unsigned kSummaries = (kWords + 63) / 64;

  unsigned NextWord(unsigned from) const {
    if (from >= kWords) return kNone;
    unsigned at = from >> 6;
    uint64_t bits = summary_[at] & (~uint64_t{0} << (from & 63));
    while (bits == 0) {
      if (++at == kSummaries) return kNone;
      bits = summary_[at];
    }
    return (at << 6) + CountTrailingZeros(bits);
  }

  uint64_t words_[kWords] = {};
  uint64_t summary_[kSummaries] = {};
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_OCCUPANCY_H_

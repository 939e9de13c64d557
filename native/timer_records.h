// TimerRecords: the table of timers by index, in memory that JavaScript and C++ both work on.
//
// A record says whether a handle is still good and what its timer carries. JavaScript allocates,
// cancels and restamps records itself, and C++ frees them when their timers fire; so neither needs
// a call for it. The memory belongs to V8 (ArrayBuffers held by the TimerQueue) and is only
// borrowed here, chunk by chunk.
//
// Chunk of 16384 records, 192 KiB, as int32 words:
//
//   words 0-8      header: [0] head and [1] tail of the queue of free records,
//                  [2] first record never used, [3] records in use,
//                  [4] generation that never used records start with,
//                  [5] highest generation given out, [6] retired records
//
//   words 3n..3n+2 record n, 3 <= n < 16384 (so that 0 can mean "none"):
//                  [0] generation while in use, minus the last one when free, 0 when never used
//                  [1] stamp of the last (re)scheduling while in use, 0 when free
//                  [2] token while in use, the next free record when free
//
// A handle is generation << 27 | chunk << 14 | n: 53 bits, exact in a JavaScript number. A
// generation of an index is used once. Free records queue up (first freed, first reused), so that
// generations rise evenly; a record that has used up all 2^26 - 1 is retired; and a chunk that
// comes back after having been given up goes on above the highest generation it ever gave out. So a
// stale handle is refused for ever.
//
// Entries of the wheel name a record by (index, stamp). Stamps are given out by one counter of 32
// bits per queue; the wheel sweeps out every stale entry long before the counter comes round (see
// Reclaim).
#ifndef MILLRACE_NATIVE_TIMER_RECORDS_H_
#define MILLRACE_NATIVE_TIMER_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millrace {

class TimerRecords {
 public:
  static constexpr unsigned kChunkBits = 14;
  static constexpr uint32_t kChunkRecords = 1u << kChunkBits;
  static constexpr uint32_t kFirstRecord = 3;
  static constexpr unsigned kWordsPerRecord = 3;
  static constexpr size_t kChunkWords = size_t{kChunkRecords} * kWordsPerRecord;
  static constexpr unsigned kIndexBits = 27;
  static constexpr uint32_t kChunksMax = 1u << (kIndexBits - kChunkBits);
  static constexpr int32_t kGenerationMax = (1 << 26) - 1;

  enum Header { kHead, kTail, kFresh, kUsed, kBase, kHighest, kRetired };
  enum Field { kGeneration, kStamp, kToken };

  // What JavaScript and C++ both count.
  struct Counters {
    int32_t live;     // records in use
    int32_t emptied;  // not 0 when a chunk may have lost its last record in use
  };

  // The counters are shared with JavaScript like the chunks, and stay valid for as long.
  explicit TimerRecords(Counters* counters) : counters_(counters) {}

  // Starts to use zeroed memory of kChunkWords words as chunk `number`. The memory must stay valid
  // until Detach. False if the generations of this chunk are used up: it was not attached, and
  // never can be.
  bool Attach(uint32_t number, int32_t* words) {
    if (number >= chunks_.size()) {
      chunks_.resize(number + 1, nullptr);
      bases_.resize(number + 1, 1);
    }
    if (bases_[number] > kGenerationMax) return false;
    words[kFresh] = kFirstRecord;
    words[kBase] = bases_[number];
    chunks_[number] = words;
    attached_++;
    return true;
  }

  // REQUIRES: no record of the chunk is in use.
  void Detach(uint32_t number) {
    const int32_t highest = chunks_[number][kHighest];
    if (highest >= bases_[number]) bases_[number] = highest + 1;
    chunks_[number] = nullptr;
    attached_--;
  }

  // Sets where the generations of a chunk start when it is attached. For tests of exhaustion.
  void StartGenerationsAt(uint32_t number, int32_t generation) {
    chunks_.resize(number + 1, nullptr);
    bases_.resize(number + 1, 1);
    bases_[number] = generation;
  }

  // Whether the scheduling with this stamp is the timer's last one and has neither fired nor been
  // cancelled.
  bool IsCurrent(uint32_t index, uint32_t stamp) const {
    const int32_t* words = chunks_[index >> kChunkBits];
    return words != nullptr && static_cast<uint32_t>(words[WordOf(index) + kStamp]) == stamp;
  }

  void Prefetch(uint32_t index) const {
#if !defined(_MSC_VER)
    const int32_t* words = chunks_[index >> kChunkBits];
    if (words != nullptr) __builtin_prefetch(words + WordOf(index), 1);
#endif
  }

  // If the entry is current: frees its record, sets *token and returns true.
  bool Fire(uint32_t index, uint32_t stamp, uint32_t* token) {
    int32_t* words = chunks_[index >> kChunkBits];
    if (words == nullptr) return false;
    int32_t* record = words + WordOf(index);
    if (static_cast<uint32_t>(record[kStamp]) != stamp) return false;
    *token = static_cast<uint32_t>(record[kToken]);
    Free(words, static_cast<int32_t>(index & (kChunkRecords - 1)));
    return true;
  }

  // The counterparts of what JavaScript does by itself (timer-queue.ts), for users in C++.
  // Allocate: REQUIRES a chunk with room. Returns the handle; `stamp` is not 0.
  uint64_t Allocate(uint32_t number, uint32_t token, uint32_t stamp) {
    int32_t* words = chunks_[number];
    int32_t local = words[kFresh];
    int32_t generation;
    if (local < static_cast<int32_t>(kChunkRecords)) {
      words[kFresh] = local + 1;
      generation = words[kBase];
    } else {
      local = words[kHead];
      words[kHead] = words[local * 3 + kToken];
      if (words[kHead] == 0) words[kTail] = 0;
      generation = 1 - words[local * 3 + kGeneration];
    }
    int32_t* record = words + local * 3;
    record[kGeneration] = generation;
    record[kStamp] = static_cast<int32_t>(stamp);
    record[kToken] = static_cast<int32_t>(token);
    if (generation > words[kHighest]) words[kHighest] = generation;
    words[kUsed]++;
    counters_->live++;
    return (uint64_t{static_cast<uint32_t>(generation)} << kIndexBits) | (number << kChunkBits) |
           static_cast<uint32_t>(local);
  }

  bool HasRoom(uint32_t number) const {
    const int32_t* words = number < chunks_.size() ? chunks_[number] : nullptr;
    return words != nullptr &&
           (words[kFresh] < static_cast<int32_t>(kChunkRecords) || words[kHead] != 0);
  }

  // The record of a good handle, else null.
  int32_t* Find(uint64_t handle) const {
    const uint32_t index = static_cast<uint32_t>(handle) & ((1u << kIndexBits) - 1);
    const uint32_t number = index >> kChunkBits;
    if (number >= chunks_.size() || chunks_[number] == nullptr) return nullptr;
    if ((index & (kChunkRecords - 1)) < kFirstRecord) return nullptr;
    int32_t* record = chunks_[number] + WordOf(index);
    return record[kGeneration] == static_cast<int32_t>(handle >> kIndexBits) ? record : nullptr;
  }

  // REQUIRES: Find(handle) is not null.
  void Cancel(uint64_t handle) {
    const uint32_t index = static_cast<uint32_t>(handle) & ((1u << kIndexBits) - 1);
    Free(chunks_[index >> kChunkBits], static_cast<int32_t>(index & (kChunkRecords - 1)));
  }

  size_t live() const { return static_cast<size_t>(counters_->live); }
  int32_t* chunk(uint32_t number) const { return chunks_[number]; }
  uint32_t chunk_count() const { return static_cast<uint32_t>(chunks_.size()); }
  size_t bytes() const {
    return attached_ * kChunkWords * sizeof(int32_t) + chunks_.capacity() * sizeof(int32_t*) +
           bases_.capacity() * sizeof(int32_t);
  }

 private:
  static size_t WordOf(uint32_t index) {
    return size_t{index & (kChunkRecords - 1)} * kWordsPerRecord;
  }

  void Free(int32_t* words, int32_t local) {
    int32_t* record = words + local * 3;
    const int32_t generation = record[kGeneration];
    record[kGeneration] = -generation;
    record[kStamp] = 0;
    record[kToken] = 0;
    if (--words[kUsed] == 0) counters_->emptied = 1;
    counters_->live--;
    if (generation >= kGenerationMax) {
      words[kRetired]++;
      return;
    }
    const int32_t tail = words[kTail];
    if (tail == 0) {
      words[kHead] = local;
    } else {
      words[tail * 3 + kToken] = local;
    }
    words[kTail] = local;
  }

  Counters* const counters_;
  std::vector<int32_t*> chunks_;  // by number; null when not attached
  std::vector<int32_t> bases_;    // by number; outlives the chunk
  size_t attached_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TIMER_RECORDS_H_

// TaskTimers: the timing wheel with its records, for users in C++. A task's number is its timer's
// token.
//
// It does for the task table what timer-queue.ts does for JavaScript: it owns the chunks of
// records, gives out stamps, and keeps the sweep of stale entries going.
#ifndef MILLRACE_NATIVE_TASK_TIMERS_H_
#define MILLRACE_NATIVE_TASK_TIMERS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "timing_wheel.h"

namespace millrace {

class TaskTimers {
 public:
  explicit TaskTimers(Tick start) : records_(&counters_), wheel_(start, &records_) {}

  // Starts a timer. Returns the index of its record, which is never 0.
  uint32_t Start(Tick due, uint32_t token) {
    if (!records_.HasRoom(chunk_)) chunk_ = FindChunk();
    if (++stamp_ == 0) stamp_ = 1;
    const auto index = static_cast<uint32_t>(records_.Allocate(chunk_, token, stamp_)) & kIndexMask;
    wheel_.Insert(due, index, stamp_);
    wheel_.Reclaim(kSweepPerOperation);
    if (++schedulings_ == kSchedulingsPerSweep) {
      schedulings_ = 0;
      wheel_.RequestSweep();
    }
    return index;
  }

  // REQUIRES: the timer has neither fired nor been stopped.
  void Stop(uint32_t index) {
    records_.Cancel(index);
    wheel_.Reclaim(kSweepPerOperation);
  }

  // As TimingWheel::Advance.
  size_t Advance(Tick now, uint32_t* out, size_t capacity) {
    const size_t count = wheel_.Advance(now, out, capacity);
    if (wheel_.is_sweeping()) wheel_.Reclaim(kSweepPerAdvance);
    if (counters_.emptied != 0) ReleaseChunks();
    return count;
  }

  Tick NextDue() { return wheel_.NextDue(); }
  Tick QuietUntil() const { return wheel_.QuietUntil(); }
  size_t size() const { return records_.live(); }
  size_t bytes() const { return records_.bytes() + wheel_.bytes(); }
  bool Check() { return wheel_.Check(); }

 private:
  static constexpr uint32_t kIndexMask = (1u << TimerRecords::kIndexBits) - 1;
  static constexpr size_t kSweepPerOperation = 8;
  static constexpr size_t kSweepPerAdvance = 1024;
  static constexpr uint32_t kSchedulingsPerSweep = 1u << 29;
  // A chunk is taken for new records again when this many are free, so that looking for one is
  // rare.
  static constexpr int32_t kReuseMin = TimerRecords::kChunkRecords / 16;

  // The lowest chunk with enough room, so that those above can become empty and go; else a new one.
  uint32_t FindChunk() {
    for (uint32_t number = 0; number < memory_.size(); number++) {
      if (memory_[number] == nullptr) continue;
      const int32_t* words = memory_[number].get();
      const auto records =
          static_cast<int32_t>(TimerRecords::kChunkRecords - TimerRecords::kFirstRecord);
      if (records - words[TimerRecords::kUsed] - words[TimerRecords::kRetired] >= kReuseMin)
        return number;
    }
    // The generations of a chunk are not used up within the years that a process lives, but they
    // can be.
    for (uint32_t number = 0;; number++) {
      if (number >= memory_.size()) memory_.resize(number + 1);
      if (memory_[number] != nullptr) continue;
      std::unique_ptr<int32_t[]> words(new int32_t[TimerRecords::kChunkWords]());
      if (!records_.Attach(number, words.get())) continue;
      memory_[number] = std::move(words);
      return number;
    }
  }

  void ReleaseChunks() {
    counters_.emptied = 0;
    for (uint32_t number = 0; number < memory_.size(); number++) {
      if (number == chunk_ || memory_[number] == nullptr) continue;
      if (memory_[number][TimerRecords::kUsed] != 0) continue;
      records_.Detach(number);
      memory_[number].reset();
    }
  }

  TimerRecords::Counters counters_ = {};
  std::vector<std::unique_ptr<int32_t[]>> memory_;
  TimerRecords records_;
  TimingWheel wheel_;
  uint32_t chunk_ = 0;
  uint32_t stamp_ = 0;
  uint32_t schedulings_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TASK_TIMERS_H_

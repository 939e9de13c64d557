// WheelDriver: a TimingWheel with its records, used as TimerQueue uses it, for tests in C++.
//
// It keeps the plainest possible model next to it (every timer in a map) and compares after each
// step.
#ifndef MILLRACE_NATIVE_TEST_WHEEL_DRIVER_H_
#define MILLRACE_NATIVE_TEST_WHEEL_DRIVER_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "../timing_wheel.h"

namespace millrace {

class WheelDriver {
 public:
  explicit WheelDriver(Tick start) : records_(&counters_), wheel_(start, &records_), now_(start) {}

  uint64_t Schedule(Tick due) {
    uint32_t number = 0;
    while (!records_.HasRoom(number)) {
      if (number >= memory_.size() || memory_[number] == nullptr) Attach(number);
      if (!records_.HasRoom(number)) number++;
    }
    const uint32_t token = next_token_++;
    const uint32_t stamp = NextStamp();
    const uint64_t handle = records_.Allocate(number, token, stamp);
    wheel_.Insert(due, Index(handle), stamp);
    model_[handle] = {due, order_++, token};
    return handle;
  }

  // Whether wheel and model agree on the answer.
  bool Cancel(uint64_t handle) {
    const bool expected = model_.erase(handle) != 0;
    const bool pending = records_.Find(handle) != nullptr;
    if (pending) records_.Cancel(handle);
    return pending == expected;
  }

  bool Reschedule(uint64_t handle, Tick due) {
    const auto found = model_.find(handle);
    int32_t* record = records_.Find(handle);
    if ((record != nullptr) != (found != model_.end())) return false;
    if (record == nullptr) return true;
    const uint32_t stamp = NextStamp();
    record[TimerRecords::kStamp] = static_cast<int32_t>(stamp);
    wheel_.Insert(due, Index(handle), stamp);
    found->second.due = due;
    found->second.order = order_++;
    return true;
  }

  // Whether the wheel hands out exactly the tokens that the model says, in order.
  bool Advance(Tick now, size_t capacity) {
    std::vector<uint32_t> out(capacity + 1, ~0u);
    out.resize(wheel_.Advance(now, out.data(), capacity));
    std::vector<std::tuple<Tick, uint64_t, uint64_t>> due;
    if (now >= now_) {
      now_ = now;
      for (const auto& [handle, timer] : model_) {
        if (timer.due <= now) due.emplace_back(timer.due, timer.order, handle);
      }
      std::sort(due.begin(), due.end());
      if (due.size() > capacity) due.resize(capacity);
    }
    bool same = out.size() == due.size();
    for (size_t i = 0; i < due.size(); i++) {
      const auto timer = model_.find(std::get<2>(due[i]));
      same = same && out[i] == timer->second.token;
      model_.erase(timer);
    }
    return same;
  }

  // Gives up chunks of records that hold no timer.
  void ReleaseRecords() {
    for (uint32_t number = 0; number < memory_.size(); number++) {
      if (memory_[number] == nullptr || memory_[number][TimerRecords::kUsed] != 0) continue;
      records_.Detach(number);
      memory_[number].reset();
    }
  }

  TimingWheel& wheel() { return wheel_; }
  TimerRecords& records() { return records_; }
  Tick now() const { return now_; }
  size_t pending() const { return model_.size(); }
  Tick earliest() const {
    Tick earliest = kNever;
    for (const auto& [handle, timer] : model_) earliest = std::min(earliest, timer.due);
    return earliest;
  }

 private:
  struct Timer {
    Tick due;
    uint64_t order;
    uint32_t token;
  };

  static uint32_t Index(uint64_t handle) {
    return static_cast<uint32_t>(handle) & ((1u << TimerRecords::kIndexBits) - 1);
  }

  uint32_t NextStamp() {
    if (++stamp_ == 0) stamp_ = 1;
    return stamp_;
  }

  void Attach(uint32_t number) {
    if (number >= memory_.size()) memory_.resize(number + 1);
    auto words = std::make_unique<int32_t[]>(TimerRecords::kChunkWords);
    if (records_.Attach(number, words.get())) memory_[number] = std::move(words);
  }

  TimerRecords::Counters counters_ = {};
  std::vector<std::unique_ptr<int32_t[]>> memory_;
  TimerRecords records_;
  TimingWheel wheel_;
  std::map<uint64_t, Timer> model_;
  Tick now_;
  uint64_t order_ = 0;
  uint32_t next_token_ = 0;
  uint32_t stamp_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TEST_WHEEL_DRIVER_H_

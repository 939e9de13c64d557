// FrameMaker: builds frames of tasks, results and states for tests in C++, the plain way.
#ifndef MILLRACE_NATIVE_TEST_FRAME_MAKER_H_
#define MILLRACE_NATIVE_TEST_FRAME_MAKER_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../frame.h"

namespace millrace {

class FrameMaker {
 public:
  FrameMaker(FrameKind kind, uint32_t record_bytes) : kind_(kind), record_bytes_(record_bytes) {}

  uint16_t String(const std::string& text) {
    for (size_t i = 0; i < strings_.size(); i++) {
      if (strings_[i] == text) return static_cast<uint16_t>(i);
    }
    strings_.push_back(text);
    return static_cast<uint16_t>(strings_.size() - 1);
  }

  uint32_t Bytes(const std::string& bytes) {
    const auto at = static_cast<uint32_t>(bytes_.size());
    bytes_ += bytes;
    return at;
  }

  // Where the new record is; good until the next one.
  uint8_t* Record() {
    records_.resize(records_.size() + record_bytes_, 0);
    return records_.data() + records_.size() - record_bytes_;
  }

  std::vector<uint8_t> Finish() const {
    size_t strings = 0;
    for (const std::string& text : strings_) strings += 2 + text.size();
    const size_t records_offset = AlignedTo8(kFrameHeaderBytes + strings);
    const size_t bytes_offset = records_offset + records_.size();
    std::vector<uint8_t> frame(bytes_offset + bytes_.size(), 0);
    WriteAs<uint32_t>(frame.data(), kFrameMagic);
    frame[4] = kFrameVersion;
    frame[5] = static_cast<uint8_t>(kind_);
    WriteAs<uint32_t>(&frame[8], static_cast<uint32_t>(records_.size() / record_bytes_));
    WriteAs<uint32_t>(&frame[12], static_cast<uint32_t>(strings_.size()));
    WriteAs<uint32_t>(&frame[16], static_cast<uint32_t>(records_offset));
    WriteAs<uint32_t>(&frame[20], static_cast<uint32_t>(bytes_offset));
    WriteAs<uint32_t>(&frame[24], static_cast<uint32_t>(frame.size()));
    size_t at = kFrameHeaderBytes;
    for (const std::string& text : strings_) {
      WriteAs<uint16_t>(&frame[at], static_cast<uint16_t>(text.size()));
      std::memcpy(frame.data() + at + 2, text.data(), text.size());
      at += 2 + text.size();
    }
    if (!records_.empty()) std::memcpy(&frame[records_offset], records_.data(), records_.size());
    if (!bytes_.empty()) std::memcpy(&frame[bytes_offset], bytes_.data(), bytes_.size());
    return frame;
  }

 private:
  const FrameKind kind_;
  const uint32_t record_bytes_;
  std::vector<std::string> strings_;
  std::vector<uint8_t> records_;
  std::string bytes_;
};

struct TaskDraft {
  std::string type = "t";
  std::string tenant;
  double due_at_ms = 0;
  double expires_at_ms = 0;
  int16_t priority = 0;
  uint16_t losses = 0;
  std::string payload = "payload";
  std::string metadata;
};

inline std::vector<uint8_t> TasksFrame(const std::vector<TaskDraft>& tasks) {
  FrameMaker maker(FrameKind::kTasks, kTaskBytes);
  for (const TaskDraft& task : tasks) {
    uint8_t* at = maker.Record();
    WriteAs<double>(at, task.due_at_ms);
    WriteAs<double>(at + 16, task.expires_at_ms);
    WriteAs<uint16_t>(at + 28, maker.String(task.type));
    WriteAs<uint16_t>(at + 30, maker.String(task.tenant));
    WriteAs<int16_t>(at + 32, task.priority);
    WriteAs<uint16_t>(at + 38, task.losses);
    WriteAs<uint32_t>(at + 40, maker.Bytes(task.payload));
    WriteAs<uint32_t>(at + 44, static_cast<uint32_t>(task.payload.size()));
    WriteAs<uint32_t>(at + 48, maker.Bytes(task.metadata));
    WriteAs<uint32_t>(at + 52, static_cast<uint32_t>(task.metadata.size()));
  }
  return maker.Finish();
}

struct ResultDraft {
  uint32_t slot;
  Outcome outcome;
  std::string bytes;
};

inline std::vector<uint8_t> ResultsFrame(const std::vector<ResultDraft>& results) {
  FrameMaker maker(FrameKind::kResults, kResultBytes);
  for (const ResultDraft& result : results) {
    uint8_t* at = maker.Record();
    WriteAs<uint32_t>(at, result.slot);
    WriteAs<uint16_t>(at + 4, static_cast<uint16_t>(result.outcome));
    WriteAs<double>(at + 8, 1.5);
    WriteAs<uint32_t>(at + 16, maker.Bytes(result.bytes));
    WriteAs<uint32_t>(at + 20, static_cast<uint32_t>(result.bytes.size()));
  }
  return maker.Finish();
}

struct StateDraft {
  uint16_t index;
  TaskState state;
  uint16_t attempt;
  std::string executor;
};

inline std::vector<uint8_t> StatesFrame(const std::vector<StateDraft>& states) {
  FrameMaker maker(FrameKind::kStates, kStateBytes);
  for (const StateDraft& state : states) {
    uint8_t* at = maker.Record();
    WriteAs<uint16_t>(at, state.index);
    at[2] = static_cast<uint8_t>(state.state);
    WriteAs<uint16_t>(at + 4, state.attempt);
    WriteAs<double>(at + 16, 7);
    WriteAs<uint16_t>(at + 24, maker.String(state.executor));
  }
  return maker.Finish();
}

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TEST_FRAME_MAKER_H_

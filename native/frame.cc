#include "frame.h"

namespace millrace {
namespace {

uint32_t RecordBytes(FrameKind kind) {
  switch (kind) {
    case FrameKind::kTasks: return kTaskBytes;
    case FrameKind::kBatch: return kBatchBytes;
    case FrameKind::kResults: return kResultBytes;
    default: return kStateBytes;
  }
}

}  // namespace

FrameError FrameView::Open(const uint8_t* data, size_t length, FrameKind kind, FrameView* view) {
  if (length < kFrameHeaderBytes || length > UINT32_MAX) return FrameError::kShape;
  if (ReadAs<uint32_t>(data) != kFrameMagic || data[4] != kFrameVersion ||
      data[5] != static_cast<uint8_t>(kind)) {
    return FrameError::kShape;
  }
  FrameView v;
  v.data_ = data;
  v.count_ = ReadAs<uint32_t>(data + 8);
  v.string_count_ = ReadAs<uint32_t>(data + 12);
  v.records_offset_ = ReadAs<uint32_t>(data + 16);
  v.bytes_offset_ = ReadAs<uint32_t>(data + 20);
  v.total_ = ReadAs<uint32_t>(data + 24);
  v.record_bytes_ = RecordBytes(kind);
  if (v.total_ != length || v.count_ > kFrameRecordsMax || v.string_count_ > kFrameStringsMax) {
    return FrameError::kShape;
  }
  if (v.records_offset_ % 8 != 0 || v.records_offset_ < kFrameHeaderBytes ||
      v.records_offset_ > v.total_) {
    return FrameError::kShape;
  }
  const uint64_t records_end = uint64_t{v.records_offset_} + uint64_t{v.count_} * v.record_bytes_;
  if (v.bytes_offset_ != records_end || v.bytes_offset_ > v.total_) return FrameError::kShape;
  uint32_t at = kFrameHeaderBytes;
  for (uint32_t i = 0; i < v.string_count_; i++) {
    if (at + 2 > v.records_offset_) return FrameError::kString;
    at += 2 + ReadAs<uint16_t>(data + at);
    if (at > v.records_offset_) return FrameError::kString;
  }
  *view = v;
  return FrameError::kNone;
}

void FrameView::Strings(Text* out) const {
  uint32_t at = kFrameHeaderBytes;
  for (uint32_t i = 0; i < string_count_; i++) {
    const uint16_t length = ReadAs<uint16_t>(data_ + at);
    out[i] = {reinterpret_cast<const char*>(data_ + at + 2), length};
    at += 2 + length;
  }
}

FrameError ReadTask(const FrameView& view, uint32_t index, TaskFields* out) {
  const uint8_t* at = view.Record(index);
  out->due_at_ms = ReadAs<double>(at);
  out->submitted_at_ms = ReadAs<double>(at + 8);
  out->expires_at_ms = ReadAs<double>(at + 16);
  out->type = ReadAs<uint16_t>(at + 28);
  out->tenant = ReadAs<uint16_t>(at + 30);
  out->priority = ReadAs<int16_t>(at + 32);
  out->attempt = ReadAs<uint16_t>(at + 36);
  out->losses = ReadAs<uint16_t>(at + 38);
  out->payload_at = ReadAs<uint32_t>(at + 40);
  out->payload_length = ReadAs<uint32_t>(at + 44);
  out->metadata_at = ReadAs<uint32_t>(at + 48);
  out->metadata_length = ReadAs<uint32_t>(at + 52);
  out->version = ReadAs<uint32_t>(at + 56);
  out->key = ReadAs<uint16_t>(at + 60);
  if (!IsTime(out->due_at_ms) || !IsTime(out->submitted_at_ms) || !IsTime(out->expires_at_ms)) {
    return FrameError::kNumber;
  }
  if (out->type >= view.string_count() || out->tenant >= view.string_count() ||
      out->key > view.string_count()) {
    return FrameError::kString;
  }
  if (!view.HasBytes(out->payload_at, out->payload_length) ||
      !view.HasBytes(out->metadata_at, out->metadata_length)) {
    return FrameError::kBytes;
  }
  return FrameError::kNone;
}

FrameError ReadResult(const FrameView& view, uint32_t index, ResultFields* out) {
  const uint8_t* at = view.Record(index);
  const auto outcome = ReadAs<uint16_t>(at + 4);
  if (outcome >= kOutcomes) return FrameError::kValue;
  out->slot = ReadAs<uint32_t>(at);
  out->outcome = static_cast<Outcome>(outcome);
  out->attempt = ReadAs<uint16_t>(at + 6);
  out->run_ms = ReadAs<double>(at + 8);
  out->bytes_at = ReadAs<uint32_t>(at + 16);
  out->bytes_length = ReadAs<uint32_t>(at + 20);
  if (!IsTime(out->run_ms)) return FrameError::kNumber;
  if (!view.HasBytes(out->bytes_at, out->bytes_length)) return FrameError::kBytes;
  return FrameError::kNone;
}

FrameError ReadState(const FrameView& view, uint32_t index, StateFields* out) {
  const uint8_t* at = view.Record(index);
  if (at[2] >= kTaskStates) return FrameError::kValue;
  out->index = ReadAs<uint16_t>(at);
  out->state = static_cast<TaskState>(at[2]);
  out->attempt = ReadAs<uint16_t>(at + 4);
  out->losses = ReadAs<uint16_t>(at + 6);
  out->due_at_ms = ReadAs<double>(at + 8);
  out->at_ms = ReadAs<double>(at + 16);
  out->executor = ReadAs<uint16_t>(at + 24);
  out->version = ReadAs<uint32_t>(at + 28);
  out->bytes_at = ReadAs<uint32_t>(at + 32);
  out->bytes_length = ReadAs<uint32_t>(at + 36);
  if (!IsTime(out->due_at_ms) || !IsTime(out->at_ms)) return FrameError::kNumber;
  if (out->executor >= view.string_count()) return FrameError::kString;
  if (!view.HasBytes(out->bytes_at, out->bytes_length)) return FrameError::kBytes;
  return FrameError::kNone;
}

void FrameSizer::Reset(uint32_t record_bytes) {
  strings_.clear();
  last_ = 0;
  record_bytes_ = record_bytes;
  count_ = 0;
  string_bytes_ = 0;
  bytes_ = 0;
}

uint16_t FrameSizer::AddString(uint64_t key, const char* text, size_t length) {
  // A frame has a handful of strings, and mostly the ones of the record before.
  const size_t known = strings_.size();
  for (size_t i = 0; i < known; i++) {
    const size_t at = last_ + i < known ? last_ + i : last_ + i - known;
    if (strings_[at].key == key) {
      last_ = at;
      return static_cast<uint16_t>(at);
    }
  }
  return AppendString(key, text, length);
}

uint16_t FrameSizer::AppendString(uint64_t key, const char* text, size_t length) {
  last_ = strings_.size();
  strings_.push_back({key, text, length});
  string_bytes_ += 2 + length;
  return static_cast<uint16_t>(last_);
}

void FrameSizer::WriteHead(FrameKind kind, uint8_t* out) const {
  std::memset(out, 0, records_offset());
  WriteAs<uint32_t>(out, kFrameMagic);
  out[4] = kFrameVersion;
  out[5] = static_cast<uint8_t>(kind);
  WriteAs<uint32_t>(out + 8, count_);
  WriteAs<uint32_t>(out + 12, static_cast<uint32_t>(strings_.size()));
  WriteAs<uint32_t>(out + 16, static_cast<uint32_t>(records_offset()));
  WriteAs<uint32_t>(out + 20, static_cast<uint32_t>(bytes_offset()));
  WriteAs<uint32_t>(out + 24, static_cast<uint32_t>(total()));
  uint8_t* at = out + kFrameHeaderBytes;
  for (const Entry& entry : strings_) {
    WriteAs<uint16_t>(at, static_cast<uint16_t>(entry.length));
    std::memcpy(at + 2, entry.text, entry.length);
    at += 2 + entry.length;
  }
}

}  // namespace millrace

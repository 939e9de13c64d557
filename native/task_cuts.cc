// What goes into commits: ended tasks, overlays, dead letters; and what a commit's fate means for
// them.
#include <algorithm>

#include "task_table.h"

namespace millrace {
namespace {

// What a state record adds to a commit, for the byte budget; src/engine/cut.ts counts the same.
constexpr double kStateCost = 48;
// What an operation adds beside its value.
constexpr double kOperationCost = 64;
// A segment costs at most so many operations beside its dead letters.
constexpr double kSegmentOperations = 3;
// The key of the empty string among the strings of a frame of states: no executor.
constexpr uint64_t kNoExecutor = ~uint64_t{0};

}  // namespace

// ---- Dirty segments
// ---------------------------------------------------------------------------------------------

// REQUIRES: the segment is not released.
void TaskTable::MarkDirty(Segment* segment) {
  if (segment->is_dirty) return;
  segment->is_dirty = true;
  segment->takes_overlay = false;
  segment->dirty_previous = dirty_last_;
  segment->dirty_next = kNone;
  if (dirty_last_ == kNone) {
    dirty_first_ = segment->page;
  } else {
    PageAt(dirty_last_).segment->dirty_next = segment->page;
  }
  dirty_last_ = segment->page;
  counters_->dirty++;
}

void TaskTable::UnmarkDirty(Segment* segment) {
  if (!segment->is_dirty) return;
  segment->is_dirty = false;
  if (segment->dirty_previous == kNone) {
    dirty_first_ = segment->dirty_next;
  } else {
    PageAt(segment->dirty_previous).segment->dirty_next = segment->dirty_next;
  }
  if (segment->dirty_next == kNone) {
    dirty_last_ = segment->dirty_previous;
  } else {
    PageAt(segment->dirty_next).segment->dirty_previous = segment->dirty_previous;
  }
  counters_->dirty--;
}

Handle TaskTable::FirstDirty() const {
  return dirty_first_ == kNone ? 0 : HandleOf(PageAt(dirty_first_).segment);
}

void TaskTable::AppendEnded(Segment* segment, uint32_t index) {
  if (segment->ended_first == kNone) {
    segment->ended_first = index;
  } else {
    segment->tasks()[segment->ended_last].link = index;
  }
  segment->ended_last = index;
  segment->tasks()[index].link = kNone;
  segment->ended_count++;
}

// ---- Cuts
// -------------------------------------------------------------------------------------------------------

TaskTable::Cut* TaskTable::FindCut(Handle handle) {
  const auto number = static_cast<uint32_t>(handle);
  if (number >= cuts_.size()) return nullptr;
  Cut& cut = cuts_[number];
  return cut.used && cut.generation == handle >> 32 ? &cut : nullptr;
}

Handle TaskTable::BeginCut() {
  uint32_t number = static_cast<uint32_t>(cuts_.size());
  if (unused_cuts_.empty()) {
    cuts_.emplace_back();
  } else {
    number = unused_cuts_.back();
    unused_cuts_.pop_back();
  }
  Cut& cut = cuts_[number];
  cut.used = true;
  cut.number = ++cut_number_;
  cut.generation = cut.generation == kGenerationMax ? 1 : cut.generation + 1;
  return MakeHandle(cut.generation, number);
}

void TaskTable::FreeCut(Cut* cut) {
  cut->used = false;
  cut->touched.clear();
  cut->filed.clear();
  unused_cuts_.push_back(static_cast<uint32_t>(cut - cuts_.data()));
}

// Whether this cut had not touched the segment yet.
bool TaskTable::Touch(Cut* cut, Segment* segment) {
  if (segment->touched_by == cut->number) return false;
  segment->touched_by = cut->number;
  cut->touched.push_back(HandleOf(segment));
  return true;
}

const std::vector<Handle>* TaskTable::Touched(Handle handle) const {
  const Cut* cut = const_cast<TaskTable*>(this)->FindCut(handle);
  return cut == nullptr ? nullptr : &cut->touched;
}

bool TaskTable::Settle(Handle handle, Settled* out, std::vector<Ended>* watched) {
  Cut* cut = FindCut(handle);
  if (cut == nullptr) return false;
  for (size_t i = 0; i < cut->filed.size(); i++) {
    if (i + kPrefetchAhead < cut->filed.size()) {
      const auto ahead = static_cast<uint32_t>(cut->filed[i + kPrefetchAhead]);
      if (ahead >> kPageBits < page_limit_) Prefetch(ahead);
    }
    Task* task = FindTask(cut->filed[i]);
    if (task == nullptr) continue;
    task->flags |= kSettled;
    ReleaseExecutor(task);
    out->tasks++;
    out->bytes += task->payload_length;
    counters_->open--;
    counters_->open_bytes -= task->payload_length;
    if (task->flags & kWatched) {
      task->flags &= static_cast<uint8_t>(~kWatched);
      const uint8_t* bytes = task->end == nullptr ? nullptr : task->end->bytes() + task->end_at;
      watched->push_back({cut->filed[i], task->state, task->end_length, bytes});
      if (task->end != nullptr) {
        // One reference moves from the task to the list.
        ends_to_free_.push_back(task->end);
        task->end = nullptr;
      }
      task->end_length = 0;
    } else {
      ReleaseEnd(task);
    }
  }
  FreeCut(cut);
  return true;
}

void TaskTable::FreeEnds() {
  for (EndBlock* end : ends_to_free_) {
    if (--end->references == 0) slab_.Free(SlabBlock(end->block));
  }
  ends_to_free_.clear();
}

bool TaskTable::Revert(Handle handle) {
  Cut* cut = FindCut(handle);
  if (cut == nullptr) return false;
  for (const Handle filed : cut->filed) {
    Task* task = FindTask(filed);
    if (task == nullptr) continue;
    const auto number = static_cast<uint32_t>(filed);
    Segment* segment = SegmentOf(number);
    task->flags &= static_cast<uint8_t>(~kFiled);
    segment->open++;
    AppendEnded(segment, IndexOf(number));
  }
  for (const Handle touched : cut->touched) {
    Segment* segment = FindSegment(touched);
    if (segment != nullptr && !segment->is_released) MarkDirty(segment);
  }
  FreeCut(cut);
  return true;
}

// ---- Filing
// -----------------------------------------------------------------------------------------------------

bool TaskTable::File(Handle cut_handle, Handle handle, const FileLimits& limits, Filing* out,
                     std::vector<Handle>* dead_letters) {
  Cut* cut = FindCut(cut_handle);
  Segment* segment = FindSegment(handle);
  if (cut == nullptr || segment == nullptr || segment->is_released) return false;
  UnmarkDirty(segment);
  out->touched = Touch(cut, segment);
  to_file_.clear();
  double operations_left = limits.operations_left;
  double bytes_left = limits.bytes_left;
  double kept_bytes = 0;
  uint32_t next = segment->ended_first;
  segment->ended_first = kNone;
  segment->ended_last = kNone;
  segment->ended_count = 0;
  while (next != kNone) {
    const uint32_t index = next;
    Task* task = segment->tasks() + index;
    next = task->link;
    const uint32_t number = NumberOf(segment, index);
    const bool is_dead_letter = task->state == TaskState::kFailed;
    const bool is_kept = (limits.keep_mask >> static_cast<unsigned>(task->state)) & 1;
    // The first one always fits: results and payloads are far below a request's limit.
    if (is_kept && !cut->filed.empty()) {
      const double bytes =
          task->end_length + (is_dead_letter ? double{1} * task->payload_length : 0);
      if ((is_dead_letter && operations_left < kSegmentOperations) ||
          kept_bytes + bytes > bytes_left) {
        AppendEnded(segment, index);
        out->left++;
        continue;
      }
    }
    if (is_kept && is_dead_letter) {
      const double bytes =
          static_cast<double>(DeadLetterParts(number, &sizer_, &inner_sizer_)) + kOperationCost;
      operations_left--;
      bytes_left -= bytes;
      out->dead_letter_bytes += bytes;
      out->dead_letters++;
      dead_letters->push_back(HandleOf(number));
    } else if (is_kept) {
      to_file_.push_back(number);
      kept_bytes += task->end_length + kStateCost;
    }
    task->flags |= kFiled;
    segment->open--;
    cut->filed.push_back(HandleOf(number));
    out->filed++;
  }
  out->complete = segment->open == 0;
  if (out->left > 0) MarkDirty(segment);
  if (to_file_.empty()) return true;
  sizer_.Reset(kStateBytes);
  sizer_.AddString(kNoExecutor, "", 0);
  for (const uint32_t number : to_file_) {
    sizer_.AddRecord();
    sizer_.AddBytes(At(number)->end_length);
  }
  out->frame_bytes = sizer_.total();
  return true;
}

// REQUIRES: File was the last call, and its frame_bytes are not 0.
void TaskTable::WriteFiled(uint8_t* out) {
  sizer_.WriteHead(FrameKind::kStates, out);
  uint8_t* at = out + sizer_.records_offset();
  uint8_t* const bytes = out + sizer_.bytes_offset();
  uint32_t used = 0;
  for (const uint32_t number : to_file_) {
    const Task* task = At(number);
    WriteStateRecord(at, number, *task, task->state, 0);
    if (task->end_length > 0) {
      WriteAs<uint32_t>(at + 32, used);
      WriteAs<uint32_t>(at + 36, task->end_length);
      std::memcpy(bytes + used, task->end->bytes() + task->end_at, task->end_length);
      used += task->end_length;
    }
    at += kStateBytes;
  }
}

// A record without bytes. The layout is drawn over readState in src/core/records.ts.
void TaskTable::WriteStateRecord(uint8_t* at, uint32_t number, const Task& task, TaskState state,
                                 uint16_t executor) const {
  std::memset(at, 0, kStateBytes);
  WriteAs<uint16_t>(at, static_cast<uint16_t>(IndexOf(number)));
  at[2] = static_cast<uint8_t>(state);
  WriteAs<uint16_t>(at + 4, task.attempt);
  WriteAs<uint16_t>(at + 6, task.losses);
  WriteAs<double>(at + 8, task.due_at_ms);
  WriteAs<double>(at + 16, task.changed_at_ms);
  WriteAs<uint16_t>(at + 24, executor);
  WriteAs<uint32_t>(at + 28, ReadAs<uint32_t>(RecordOf(number) + 56));
}

// ---- Dead letters: [0] u32 length of the states frame  [4] states frame  [..] tasks frame
// -------------------------

size_t TaskTable::DeadLetterParts(uint32_t number, FrameSizer* states, FrameSizer* tasks) {
  const Task* task = At(number);
  states->Reset(kStateBytes);
  states->AddString(kNoExecutor, "", 0);
  states->AddRecord();
  states->AddBytes(task->end_length);
  const std::string& type = strings_.Text(types_[task->type].name);
  const std::string& tenant = strings_.Text(task->tenant);
  tasks->Reset(kTaskBytes);
  tasks->AddString(types_[task->type].name, type.data(), type.size());
  tasks->AddString(task->tenant, tenant.data(), tenant.size());
  const uint32_t key = KeyOf(*task);
  if (key != kNone) tasks->AddString(key, strings_.Text(key).data(), strings_.Text(key).size());
  tasks->AddRecord();
  tasks->AddBytes(task->payload_length);
  tasks->AddBytes(ReadAs<uint32_t>(RecordOf(number) + 52));
  return 4 + states->total() + tasks->total();
}

size_t TaskTable::MeasureDeadLetter(Handle handle) {
  const Task* task = FindTask(handle);
  if (task == nullptr || task->state != TaskState::kFailed || (task->flags & kSettled)) return 0;
  return DeadLetterParts(static_cast<uint32_t>(handle), &sizer_, &inner_sizer_);
}

// REQUIRES: MeasureDeadLetter of this task was the last call, and not 0.
void TaskTable::WriteDeadLetter(Handle handle, uint8_t* out) {
  const auto number = static_cast<uint32_t>(handle);
  const Task* task = At(number);
  const Segment* segment = SegmentOf(number);
  const uint8_t* source = segment->frame + segment->bytes_offset;
  const uint8_t* record = RecordOf(number);

  WriteAs<uint32_t>(out, static_cast<uint32_t>(sizer_.total()));
  uint8_t* frame = out + 4;
  sizer_.WriteHead(FrameKind::kStates, frame);
  uint8_t* at = frame + sizer_.records_offset();
  WriteStateRecord(at, number, *task, task->state, 0);
  if (task->end_length > 0) {
    WriteAs<uint32_t>(at + 36, task->end_length);
    std::memcpy(frame + sizer_.bytes_offset(), task->end->bytes() + task->end_at, task->end_length);
  }

  frame += sizer_.total();
  inner_sizer_.WriteHead(FrameKind::kTasks, frame);
  at = frame + inner_sizer_.records_offset();
  std::memcpy(at, record, kTaskBytes);
  const auto string = [this](uint32_t id) { return inner_sizer_.AddString(id, nullptr, 0); };
  WriteAs<uint32_t>(at + 24, 0);
  WriteAs<uint16_t>(at + 28, string(types_[task->type].name));
  WriteAs<uint16_t>(at + 30, string(task->tenant));
  WriteAs<uint16_t>(at + 34, 0);
  WriteAs<uint16_t>(at + 36, task->attempt);
  WriteAs<uint16_t>(at + 38, task->losses);
  WriteAs<uint32_t>(at + 40, 0);
  WriteAs<uint32_t>(at + 48, task->payload_length);
  const uint32_t key = KeyOf(*task);
  WriteAs<uint32_t>(at + 60, key == kNone ? 0 : string(key) + 1u);
  uint8_t* bytes = frame + inner_sizer_.bytes_offset();
  if (task->payload_length > 0) std::memcpy(bytes, source + task->payload_at, task->payload_length);
  const auto metadata_length = ReadAs<uint32_t>(record + 52);
  if (metadata_length > 0) {
    std::memcpy(bytes + task->payload_length, source + ReadAs<uint32_t>(record + 48),
                metadata_length);
  }
}

// ---- Overlays
// ---------------------------------------------------------------------------------------------------

// Results are filed apart, so ended tasks are bare here; and one whose end is not filed yet stands
// as RUNNING, under who ran it, so that a crash before the filing makes it run again instead of
// vanish.

// Whom a task stands as RUNNING under; kNone if it does not.
uint32_t TaskTable::ExecutorInOverlay(const Task& task) const {
  if (task.state == TaskState::kRunning) return task.mark;
  if (task.state == TaskState::kPending || (task.flags & kFiled) != 0) return kNone;
  return task.mark == kNone ? executor_ : task.mark;
}

size_t TaskTable::MeasureOverlay(Handle handle) {
  const Segment* segment = FindSegment(handle);
  if (segment == nullptr || segment->is_released) return 0;
  sizer_.Reset(kStateBytes);
  size_t count = 0;
  for (uint32_t i = 0; i < segment->count; i++) {
    const Task& task = segment->tasks()[i];
    if (task.state == TaskState::kPending && task.changed_at_ms == 0) continue;
    const uint32_t executor = ExecutorInOverlay(task);
    if (executor == kNone) {
      sizer_.AddString(kNoExecutor, "", 0);
    } else {
      const std::string& text = strings_.Text(executor);
      sizer_.AddString(executor, text.data(), text.size());
    }
    sizer_.AddRecord();
    count++;
  }
  return count == 0 ? 0 : sizer_.total();
}

// REQUIRES: MeasureOverlay of this segment was the last call, and not 0.
void TaskTable::WriteOverlay(Handle handle, uint8_t* out) {
  Segment* segment = FindSegment(handle);
  sizer_.WriteHead(FrameKind::kStates, out);
  uint8_t* at = out + sizer_.records_offset();
  for (uint32_t i = 0; i < segment->count; i++) {
    const Task& task = segment->tasks()[i];
    if (task.state == TaskState::kPending && task.changed_at_ms == 0) continue;
    const uint32_t executor = ExecutorInOverlay(task);
    const TaskState state = executor == kNone ? task.state : TaskState::kRunning;
    const uint64_t key = executor == kNone ? kNoExecutor : executor;
    WriteStateRecord(at, NumberOf(segment, i), task, state, sizer_.AddString(key, nullptr, 0));
    at += kStateBytes;
  }
  segment->has_overlay = true;
}

}  // namespace millrace

// Segments in and out: from a submission or the store, to their end or to another node.
#include <algorithm>
#include <new>

#include "task_table.h"

namespace millrace {
namespace {

constexpr size_t kFrameBytesMax = size_t{1} << 30;

}  // namespace

TaskTable::IngestError TaskTable::Add(const Ingest& in, const Now& now, Handle* out) {
  FrameView view;
  if (in.length > kFrameBytesMax ||
      FrameView::Open(in.frame, in.length, FrameKind::kTasks, &view) != FrameError::kNone) {
    return IngestError::kFrame;
  }
  const uint32_t hash = HashBytes(in.ref.data, in.ref.length, refs_.seed());
  if (Find(in.ref) != 0) return IngestError::kKnown;
  const uint32_t count = view.count();
  const uint32_t string_count = view.string_count();
  if (in.due_mono_ms != nullptr && in.due_count != count) return IngestError::kDueCount;

  const size_t strings_at = sizeof(Segment) + size_t{count} * sizeof(Task);
  const size_t ref_at = strings_at + size_t{string_count} * sizeof(uint32_t);
  const size_t frame_at = AlignedTo8(ref_at + in.ref.length);
  const SlabBlock block = slab_.Allocate(frame_at + in.length);
  auto* segment = new (block.data) Segment();
  segment->block = block;
  segment->frame = block.data + frame_at;
  segment->frame_length = static_cast<uint32_t>(in.length);
  std::memcpy(segment->frame, in.frame, in.length);
  // From here on the copy counts, which nobody else can write to.
  bool good =
      FrameView::Open(segment->frame, in.length, FrameKind::kTasks, &view) == FrameError::kNone &&
      view.count() == count && view.string_count() == string_count;
  segment->records_offset = view.records_offset();
  segment->bytes_offset = view.bytes_offset();
  segment->count = count;
  segment->string_count = string_count;
  segment->strings = reinterpret_cast<uint32_t*>(block.data + strings_at);
  uint64_t bytes_referred_to = 0;
  for (uint32_t i = 0; good && i < count; i++) {
    TaskFields fields;
    good = ReadTask(view, i, &fields) == FrameError::kNone;
    bytes_referred_to += uint64_t{fields.payload_length} + fields.metadata_length;
    // Records that share bytes could make gigabytes of batches out of a small frame.
    if (!good || bytes_referred_to > in.length) {
      good = false;
      break;
    }
    Task* task = new (segment->tasks() + i) Task();
    task->due_at_ms = fields.due_at_ms;
    task->payload_at = fields.payload_at;
    task->payload_length = fields.payload_length;
    task->traits = fields.version != 0 || fields.metadata_length != 0 ? kHasExtras : 0;
    // Places in the frame's table until all of it is known to be good.
    task->type = fields.type;
    task->tenant = fields.tenant;
    task->attempt = fields.attempt;
    task->losses = fields.losses;
    task->priority = fields.priority;
    task->flags = fields.expires_at_ms > 0 ? kHasTtl : 0;
  }
  if (!good) {
    slab_.Free(block);
    return IngestError::kFrame;
  }
  if (!TakePages(std::max(1u, (count + kPageTasks - 1) / kPageTasks), &segment->page)) {
    slab_.Free(block);
    return IngestError::kFull;
  }
  for (uint32_t page = segment->page; page != kNone; page = PageAt(page).next) {
    PageAt(page).segment = segment;
    PageAt(page).tasks = segment->tasks() + size_t{PageAt(page).part} * kPageTasks;
  }

  if (texts_.size() < string_count) texts_.resize(string_count);
  view.Strings(texts_.data());
  std::fill(segment->strings, segment->strings + string_count, kNone);
  const auto intern = [&](uint32_t string) {
    uint32_t& id = segment->strings[string];
    if (id == kNone) id = strings_.Acquire(texts_[string].data, texts_[string].length);
    return id;
  };
  double payload_bytes = 0;
  uint32_t last_string = kNone;
  uint32_t last_type = kNone;
  for (uint32_t i = 0; i < count; i++) {
    Task* task = segment->tasks() + i;
    if (task->type != last_string) {
      last_string = task->type;
      last_type = TypeFor(intern(last_string));
    }
    task->type = last_type;
    task->tenant = intern(task->tenant);
    const auto key = ReadAs<uint16_t>(RecordOf(NumberOf(segment, i)) + 60);
    if (key != 0) SetKey(NumberOf(segment, i), texts_[key - 1]);
    payload_bytes += task->payload_length;
  }
  char* ref = reinterpret_cast<char*>(block.data + ref_at);
  std::memcpy(ref, in.ref.data, in.ref.length);
  segment->ref = ref;
  segment->ref_length = in.ref.length;
  segment->ref_hash = hash;
  segment->open = count;
  segment->ended_first = kNone;
  segment->ended_last = kNone;
  segment->dirty_previous = kNone;
  segment->dirty_next = kNone;
  segment->is_held = in.hold;
  segment->takes_overlay = in.hold;
  refs_.Insert(hash, segment->page);
  counters_->segments++;
  counters_->tasks += count;
  counters_->open += count;
  counters_->open_bytes += payload_bytes;
  counters_->states[0] += count;
  *out = HandleOf(segment);
  if (in.hold) return IngestError::kNone;

  PassTime(now);
  for (uint32_t i = 0; i < count; i++) {
    Task* task = segment->tasks() + i;
    const double due = in.due_mono_ms != nullptr ? in.due_mono_ms[i]
                                                 : now.mono_ms + (task->due_at_ms - now.wall_ms);
    WaitUntil(NumberOf(segment, i), task, due, now);
  }
  return IngestError::kNone;
}

bool TaskTable::ApplyOverlay(Handle handle, const uint8_t* frame, size_t length) {
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || !segment->takes_overlay) return false;
  FrameView view;
  if (FrameView::Open(frame, length, FrameKind::kStates, &view) != FrameError::kNone) return false;
  states_.resize(view.count());
  std::vector<bool> named(segment->count, false);
  for (uint32_t i = 0; i < view.count(); i++) {
    StateFields& state = states_[i];
    if (ReadState(view, i, &state) != FrameError::kNone) return false;
    if (state.index >= segment->count || named[state.index]) return false;
    named[state.index] = true;
  }
  if (texts_.size() < view.string_count()) texts_.resize(view.string_count());
  view.Strings(texts_.data());
  for (uint32_t i = 0; i < view.count(); i++) {
    const StateFields& state = states_[i];
    Task* task = segment->tasks() + state.index;
    task->attempt = state.attempt;
    task->losses = state.losses;
    task->due_at_ms = state.due_at_ms;
    task->changed_at_ms = state.at_ms;
    const uint32_t number = NumberOf(segment, state.index);
    if (state.version > ReadAs<uint32_t>(RecordOf(number) + 56)) {
      SetVersion(number, task, state.version);
    }
    SetState(task, state.state);
    // Nothing else that is due later than it last changed has not begun to spend attempts.
    if (state.state == TaskState::kPending && state.attempt == 0 && state.due_at_ms != state.at_ms) {
      task->traits |= kMoved;
    }
    if (state.state == TaskState::kRunning) {
      const Text& executor = texts_[state.executor];
      task->mark = strings_.Acquire(executor.data, executor.length);
      if ((task->traits & kKeyed) != 0) TakeSlot(task);
    } else if (state.state >= TaskState::kCompleted) {
      task->flags |= kFiled | kSettled;
      task->end_at = 0;
      task->mark = kNone;
      segment->open--;
      counters_->open--;
      counters_->open_bytes -= task->payload_length;
    }
  }
  segment->has_overlay = true;
  segment->takes_overlay = false;
  return true;
}

TaskTable::Resumed TaskTable::Resume(Handle handle, const Now& now, std::vector<Handle>* lost) {
  Resumed resumed;
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || !segment->is_held) return resumed;
  segment->is_held = false;
  segment->takes_overlay = false;
  PassTime(now);
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if ((task->flags & kSettled) == 0) {
      resumed.open++;
      resumed.open_bytes += task->payload_length;
    }
    const uint32_t number = NumberOf(segment, i);
    if (task->state == TaskState::kPending) {
      WaitUntil(number, task, now.mono_ms + (task->due_at_ms - now.wall_ms), now);
    } else if (task->state == TaskState::kRunning && (task->flags & kInBatch) == 0) {
      lost->push_back(HandleOf(number));
    }
  }
  // Everything has ended, and the process died before it could delete it.
  if (segment->open == 0) MarkDirty(segment);
  return resumed;
}

bool TaskTable::Hold(Handle handle) {
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || segment->is_released) return false;
  if (segment->is_held) return true;
  segment->is_held = true;
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if (task->state == TaskState::kPending) StopWaiting(task);
  }
  SweepAllReady();
  return true;
}

void TaskTable::ShiftWaits(Handle handle, double by_ms) {
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || !segment->is_held) return;
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if (task->state == TaskState::kPending && (task->traits & kWaitsHere) != 0) {
      task->due_at_ms += by_ms;
    }
  }
}

bool TaskTable::Release(Handle handle, Released* out) {
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || segment->is_released) return false;
  UnmarkDirty(segment);
  refs_.Erase(segment->ref_hash, segment->page);
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if ((task->flags & kSettled) == 0) {
      out->open++;
      out->open_bytes += task->payload_length;
      if (task->flags & kWatched) out->watched.push_back({i, HandleOf(NumberOf(segment, i))});
    }
    if ((task->flags & kInBatch) == 0) {
      ForgetTask(task);
    } else {
      // Who owns it now keeps the account.
      LeaveSlot(task);
    }
  }
  counters_->tasks -= segment->count - segment->in_batches;
  counters_->open -= out->open;
  counters_->open_bytes -= out->open_bytes;
  out->running = segment->in_batches;
  segment->open = segment->in_batches;
  segment->ended_first = kNone;
  segment->ended_last = kNone;
  segment->ended_count = 0;
  segment->is_held = false;
  segment->takes_overlay = false;
  segment->is_released = true;
  if (segment->open == 0) FreeSegment(segment);
  SweepAllReady();
  return true;
}

bool TaskTable::Forget(Handle handle) {
  Task* task = FindTask(handle);
  if (task == nullptr || (task->flags & kInBatch)) return false;
  Segment* segment = SegmentOf(static_cast<uint32_t>(handle));
  if (!segment->is_released) return false;
  ForgetTask(task);
  counters_->tasks--;
  if (--segment->open == 0) FreeSegment(segment);
  return true;
}

Handle TaskTable::Find(const Text& ref) const {
  const uint32_t page =
      refs_.Find(HashBytes(ref.data, ref.length, refs_.seed()), [&](uint32_t known) {
        const Segment* segment = PageAt(known).segment;
        return segment->ref_length == ref.length &&
               std::memcmp(segment->ref, ref.data, ref.length) == 0;
      });
  return page == HashIndex::kNone ? 0 : HandleOf(page << kPageBits);
}

Handle TaskTable::TaskAt(Handle handle, uint32_t index) const {
  const Segment* segment = FindSegment(handle);
  if (segment == nullptr || index >= segment->count) return 0;
  const uint32_t number = NumberOf(segment, index);
  return IsForgotten(segment, *At(number)) ? 0 : HandleOf(number);
}

bool TaskTable::Drop(Handle handle) {
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || segment->in_batches > 0) return false;
  UnmarkDirty(segment);
  counters_->tasks -= segment->is_released ? segment->open : segment->count;
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if (IsForgotten(segment, *task)) continue;
    if (!segment->is_released && (task->flags & kSettled) == 0) {
      counters_->open--;
      counters_->open_bytes -= task->payload_length;
    }
    ForgetTask(task);
  }
  if (!segment->is_released) refs_.Erase(segment->ref_hash, segment->page);
  FreeSegment(segment);
  SweepAllReady();
  return true;
}

// Everything of a task but its place, and its share of the sums. REQUIRES: it is in no batch.
void TaskTable::ForgetTask(Task* task) {
  if (task->state == TaskState::kPending) {
    StopWaiting(task);
  } else if (task->state == TaskState::kRunning) {
    LeaveSlot(task);
    ReleaseString(task->mark);
  } else {
    ReleaseEnd(task);
    ReleaseExecutor(task);
  }
  counters_->states[static_cast<size_t>(task->state)]--;
  task->state = TaskState::kPending;
  task->flags = 0;
  if (!keyed_.empty()) ForgetKey(task);
}

// REQUIRES: its tasks are forgotten, it is not dirty, and no name leads to it.
void TaskTable::FreeSegment(Segment* segment) {
  for (uint32_t i = 0; i < segment->string_count; i++) {
    if (segment->strings[i] != kNone) ReleaseString(segment->strings[i]);
  }
  counters_->segments--;
  const SlabBlock block = segment->block;
  FreePages(segment->page);
  slab_.Free(block);
}

}  // namespace millrace

// The table itself: types, handles, time, states. Segments are in task_segments.cc, batches in
// task_batches.cc, commits in task_cuts.cc.
#include "task_table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

namespace millrace {
namespace {

constexpr double kTimeMax = 9007199254740991.0;
constexpr size_t kDueSlice = 1024;
// How long spare memory has to lie unused.
constexpr double kTrimEveryMs = 1000;

Tick FloorTick(double ms) { return static_cast<Tick>(std::min(std::max(ms, 0.0), kTimeMax)); }

}  // namespace

TaskTable::TaskTable(TaskCounters* counters, double start_mono_ms, double ageing_ms,
                     const Text& executor)
    : counters_(counters),
      executor_(strings_.Acquire(executor.data, executor.length)),
      timers_(FloorTick(start_mono_ms)),
      ready_{ReadyQueue(ageing_ms), ReadyQueue(ageing_ms), ReadyQueue(ageing_ms),
             ReadyQueue(ageing_ms)},
      due_(kDueSlice) {
  for (uint32_t queue = kPlaces; queue < kQueues; queue++) {
    ready_[queue].AddType(ReadyQueue::kNoLimit);
  }
}

TaskTable::~TaskTable() = default;

// ---- Types and tenants
// ------------------------------------------------------------------------------------------

uint32_t TaskTable::TypeFor(uint32_t string) {
  if (string >= type_of_string_.size()) type_of_string_.resize(strings_.limit(), kNone);
  uint32_t& id = type_of_string_[string];
  if (id != kNone) return id;
  if (unused_types_.empty()) {
    id = static_cast<uint32_t>(types_.size());
    types_.emplace_back();
  } else {
    id = unused_types_.back();
    unused_types_.pop_back();
    types_[id] = Type();
  }
  types_[id].name = string;
  types_[id].average_run_ms = std::numeric_limits<double>::quiet_NaN();
  return id;
}

uint32_t TaskTable::DefineType(const Text& name, const TypeToDefine& type, const Now& now) {
  // The reference stays: a type with a handler is never forgotten.
  const uint32_t string = strings_.Acquire(name.data, name.length);
  const uint32_t id = TypeFor(string);
  types_[id].is_just_in_time = type.is_just_in_time;
  if (types_[id].per_key != type.per_key) {
    types_[id].per_key = type.per_key;
    LetAllIn();
  }
  if (types_[id].place != kNone) {
    strings_.Release(string);
    ready_[types_[id].place].SetLimit(types_[id].queue_type, type.limit);
    return id;
  }
  types_[id].place = type.place;
  types_[id].queue_type = ready_[type.place].AddType(type.limit);
  if (counters_->unhandled == 0) return id;
  for (uint32_t page = 0; page < page_limit_; page++) {
    const Page& p = PageAt(page);
    if (p.tasks == nullptr) continue;
    const uint32_t count = std::min(kPageTasks, p.segment->count - p.part * kPageTasks);
    for (uint32_t i = 0; i < count; i++) {
      Task* task = p.tasks + i;
      if (task->type != id || !(task->flags & kReady)) continue;
      counters_->unhandled--;
      task->flags &= static_cast<uint8_t>(~kReady);
      EnterReady(page << kPageBits | i, task, now);
    }
  }
  return id;
}

void TaskTable::SetWeight(const Text& tenant, double weight) {
  // The reference stays, so that the number keeps meaning this tenant.
  const uint32_t string = strings_.Acquire(tenant.data, tenant.length);
  for (ReadyQueue& queue : ready_) queue.SetWeight(string, weight);
}

uint32_t TaskTable::Running(uint32_t type) const {
  const Type& t = types_[type];
  return t.place == kNone ? 0 : ready_[t.place].running(t.queue_type);
}

size_t TaskTable::Ready(uint32_t type) const {
  const Type& t = types_[type];
  return t.place == kNone ? 0 : ready_[t.place].size(t.queue_type);
}

const std::string* TaskTable::TypeName(uint32_t type) const {
  return type < types_.size() && types_[type].name != kNone ? &strings_.Text(types_[type].name)
                                                            : nullptr;
}

void TaskTable::ReleaseString(uint32_t string) {
  if (!strings_.Release(string)) return;
  if (string >= type_of_string_.size()) return;
  uint32_t& type = type_of_string_[string];
  if (type == kNone) return;
  types_[type].name = kNone;
  unused_types_.push_back(type);
  type = kNone;
}

// ---- Numbers and handles
// ----------------------------------------------------------------------------------------

uint32_t TaskTable::NumberOf(const Segment* segment, uint32_t index) const {
  uint32_t page = segment->page;
  for (uint32_t part = index >> kPageBits; part > 0; part--) page = PageAt(page).next;
  return page << kPageBits | (index & (kPageTasks - 1));
}

void TaskTable::Prefetch(uint32_t number) const {
#if !defined(_MSC_VER)
  __builtin_prefetch(At(number), 1);
#endif
}

TaskTable::Task* TaskTable::FindTask(Handle handle) const {
  const auto number = static_cast<uint32_t>(handle);
  if (number >> kPageBits >= page_limit_) return nullptr;
  const Page& page = PageOf(number);
  if (page.tasks == nullptr || page.generation != handle >> 32) return nullptr;
  if (IndexOf(number) >= page.segment->count) return nullptr;
  Task* task = At(number);
  return IsForgotten(page.segment, *task) ? nullptr : task;
}

TaskTable::Segment* TaskTable::FindSegment(Handle handle) const {
  const auto number = static_cast<uint32_t>(handle);
  if (number >> kPageBits >= page_limit_ || (number & (kPageTasks - 1)) != 0) return nullptr;
  const Page& page = PageOf(number);
  if (page.tasks == nullptr || page.generation != handle >> 32 || page.part != 0) return nullptr;
  return page.segment;
}

// Takes pages, linked by `next`. False if there are not so many left.
bool TaskTable::TakePages(uint32_t count, uint32_t* first) {
  uint32_t before = kNone;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t page = free_first_;
    if (page != kNone) {
      free_first_ = PageAt(page).next;
      if (free_first_ == kNone) free_last_ = kNone;
    } else if (page_limit_ < kPagesMax) {
      page = page_limit_++;
      if (page >> kPageChunkBits == pages_.size()) pages_.emplace_back(new Page[kPageChunk]);
      PageAt(page).generation = generation_base_;
    } else {
      if (before != kNone) FreePages(*first);
      return false;
    }
    Page& p = PageAt(page);
    p.generation++;
    p.next = kNone;
    p.part = i;
    generation_top_ = std::max(generation_top_, p.generation);
    if (before == kNone) {
      *first = page;
    } else {
      PageAt(before).next = page;
    }
    before = page;
  }
  return true;
}

void TaskTable::FreePages(uint32_t first) {
  for (uint32_t page = first; page != kNone;) {
    Page& p = PageAt(page);
    const uint32_t next = p.next;
    p.tasks = nullptr;
    p.segment = nullptr;
    p.next = kNone;
    // First freed, first used again, so that generations rise evenly. One that is used up is
    // retired.
    if (p.generation < kGenerationMax) {
      if (free_last_ == kNone) {
        free_first_ = page;
      } else {
        PageAt(free_last_).next = page;
      }
      free_last_ = page;
    }
    page = next;
  }
  // Empty: the pages go, and those that come count on from where these have been.
  if (counters_->segments == 0 && page_limit_ > kPageChunk &&
      generation_top_ < kGenerationMax / 2) {
    pages_.clear();
    page_limit_ = 0;
    free_first_ = kNone;
    free_last_ = kNone;
    generation_base_ = generation_top_;
  }
}

// ---- Time
// -------------------------------------------------------------------------------------------------------

// Time that passed without anything due: what comes is placed by its distance from the present.
void TaskTable::PassTime(const Now& now) { timers_.Advance(FloorTick(now.mono_ms), nullptr, 0); }

size_t TaskTable::Advance(const Now& now, size_t budget) {
  if (now.mono_ms >= trim_at_ms_) {
    slab_.Trim();
    trim_at_ms_ = now.mono_ms + kTrimEveryMs;
  }
  size_t fired = 0;
  const Tick tick = FloorTick(now.mono_ms);
  while (fired < budget) {
    const size_t slice = std::min(kDueSlice, budget - fired);
    const size_t count = timers_.Advance(tick, due_.data(), slice);
    for (size_t i = 0; i < count; i++) {
      if (i + kPrefetchAhead < count) Prefetch(due_[i + kPrefetchAhead]);
      Task* task = At(due_[i]);
      task->flags &= static_cast<uint8_t>(~kTimed);
      if (task->flags & kReady) {
        LeaveReady(task);
        ListExpired(due_[i], task);
      } else {
        counters_->delayed--;
        MakeReady(due_[i], task, now);
      }
    }
    fired += count;
    if (count < slice) break;
  }
  return fired;
}

double TaskTable::NextDueMs() {
  const Tick next = timers_.NextDue();
  const double due =
      next == kNever ? std::numeric_limits<double>::infinity() : static_cast<double>(next);
  return slab_.CanTrim() ? std::min(due, trim_at_ms_) : due;
}

size_t TaskTable::TakeExpired(Handle* out, size_t capacity) {
  size_t count = 0;
  while (count < capacity && !expired_.empty()) {
    const Handle handle = expired_.back();
    expired_.pop_back();
    counters_->expired--;
    // Cancelled, dropped or held meanwhile?
    Task* task = FindTask(handle);
    if (task == nullptr || task->state != TaskState::kPending) continue;
    if ((task->traits & kListed) == 0) continue;
    task->traits &= ~uint32_t{kListed};
    out[count++] = handle;
  }
  if (expired_.empty()) std::vector<Handle>().swap(expired_);
  return count;
}

size_t TaskTable::TakeUnhandled(Handle* out, size_t capacity) {
  const size_t count = std::min(capacity, unhandled_.size());
  std::copy(unhandled_.begin(), unhandled_.begin() + static_cast<std::ptrdiff_t>(count), out);
  unhandled_.clear();
  return count;
}

void TaskTable::WaitUntil(uint32_t number, Task* task, double due_mono_ms, const Now& now) {
  if (due_mono_ms <= now.mono_ms) return MakeReady(number, task, now);
  StartTimer(number, task, due_mono_ms);
  counters_->delayed++;
}

void TaskTable::MakeReady(uint32_t number, Task* task, const Now& now) {
  if ((task->flags & kHasTtl) && task->attempt == 0) {
    const double left_ms = ExpiresAt(number, *task) - now.wall_ms;
    if (left_ms <= 0) return ListExpired(number, task);
    StartTimer(number, task, now.mono_ms + left_ms);
  }
  EnterReady(number, task, now);
}

void TaskTable::ListExpired(uint32_t number, Task* task) {
  task->traits |= kListed;
  expired_.push_back(HandleOf(number));
  counters_->expired++;
}

void TaskTable::EnterReady(uint32_t number, Task* task, const Now& now) {
  task->flags |= kReady;
  const Type& type = types_[task->type];
  if (type.place == kNone) {
    task->mark = 0;
    counters_->unhandled++;
    if (unhandled_.size() < kUnhandledKept) unhandled_.push_back(HandleOf(number));
    return;
  }
  task->traits &= ~uint32_t{kAmongAlone};
  if (MustBeAlone(*task)) task->traits |= kAmongAlone;
  counters_->ready[type.place]++;
  if ((task->traits & kKeyed) != 0) return ParkForSlot(task);
  task->mark = ready_[QueueOf(*task)].Push(QueueTypeOf(*task), task->priority, task->tenant, number,
                                           now.mono_ms);
}

// Takes a pending task out of where ready tasks wait; its entry there goes stale.
void TaskTable::LeaveReady(Task* task) {
  if ((task->flags & kReady) == 0) return;
  task->flags &= static_cast<uint8_t>(~kReady);
  const Type& type = types_[task->type];
  if (type.place == kNone) {
    counters_->unhandled--;
    return;
  }
  counters_->ready[type.place]--;
  if ((task->traits & kParked) != 0) {
    task->traits &= ~uint32_t{kParked};
    return;
  }
  ready_[QueueOf(*task)].Forget(QueueTypeOf(*task), task->priority, task->tenant);
  LeaveSlot(task);
}

void TaskTable::StartTimer(uint32_t number, Task* task, double at_mono_ms) {
  task->link = timers_.Start(FloorTick(std::ceil(at_mono_ms)), number);
  task->flags |= kTimed;
}

void TaskTable::StopTimer(Task* task) {
  if ((task->flags & kTimed) == 0) return;
  timers_.Stop(task->link);
  task->flags &= static_cast<uint8_t>(~kTimed);
}

// Takes a pending task out of wherever it waits.
void TaskTable::StopWaiting(Task* task) {
  if ((task->flags & kTimed) != 0 && (task->flags & kReady) == 0) counters_->delayed--;
  StopTimer(task);
  LeaveReady(task);
  task->traits &= ~uint32_t{kListed};
}

bool TaskTable::IsReadyEntry(uint32_t queue, uint32_t number, uint32_t stamp) const {
  if (number >> kPageBits >= page_limit_) return false;
  const Page& page = PageOf(number);
  const uint32_t place_in_page = number & (kPageTasks - 1);
  if (page.tasks == nullptr || page.part * kPageTasks + place_in_page >= page.segment->count) {
    return false;
  }
  const Task* task = page.tasks + place_in_page;
  // Each queue gives stamps of its own, and the number may have come to mean a task in another.
  return (task->flags & kReady) != 0 && task->mark == stamp && types_[task->type].place != kNone &&
         QueueOf(*task) == queue;
}

void TaskTable::SweepReady(uint32_t queue) {
  if (!ready_[queue].wants_sweep()) return;
  struct Context {
    const TaskTable* table;
    uint32_t queue;
  } context = {this, queue};
  ready_[queue].Sweep(
      [](void* data, uint32_t number, uint32_t stamp) {
        const auto* of = static_cast<const Context*>(data);
        return of->table->IsReadyEntry(of->queue, number, stamp);
      },
      &context);
}

void TaskTable::SweepAllReady() {
  for (uint32_t queue = 0; queue < kQueues; queue++) SweepReady(queue);
}

// ---- States
// -----------------------------------------------------------------------------------------------------

void TaskTable::SetState(Task* task, TaskState state) {
  counters_->states[static_cast<size_t>(task->state)]--;
  counters_->states[static_cast<size_t>(state)]++;
  task->state = state;
}

// To PENDING or RUNNING, whose bookkeeping is the caller's. REQUIRES: the step is one of
// src/core/states.ts.
void TaskTable::Move(Task* task, TaskState state, double at_ms) {
  if (task->state == TaskState::kRunning) {
    ReleaseString(task->mark);
    task->mark = 0;
  }
  SetState(task, state);
  task->changed_at_ms = at_ms;
}

TaskTable::EndBlock* TaskTable::NewEnd(size_t length) {
  const SlabBlock block = slab_.Allocate(sizeof(EndBlock) + length);
  auto* end = new (block.data) EndBlock();
  end->block = block;
  end->references = 0;
  return end;
}

void TaskTable::ReleaseEnd(Task* task) {
  EndBlock* end = task->end;
  task->end = nullptr;
  task->end_length = 0;
  if (end != nullptr && --end->references == 0) slab_.Free(SlabBlock(end->block));
}

void TaskTable::ReleaseExecutor(Task* task) {
  if (task->mark != kNone) ReleaseString(task->mark);
  task->mark = kNone;
}

// A task ends. REQUIRES: it is in no batch, and the step is allowed.
void TaskTable::Finish(uint32_t number, Task* task, TaskState state, EndBlock* end, uint32_t at,
                       uint32_t length, double at_ms) {
  // Who ran it stays known until the end is durable: overlays name it.
  if (task->state == TaskState::kPending) {
    StopWaiting(task);
    task->mark = kNone;
  } else {
    LeaveSlot(task);
  }
  SetState(task, state);
  task->changed_at_ms = at_ms;
  task->end = length == 0 ? nullptr : end;
  task->end_at = at;
  task->end_length = length;
  if (task->end != nullptr) end->references++;
  Segment* segment = SegmentOf(number);
  AppendEnded(segment, IndexOf(number));
  MarkDirty(segment);
}

// RUNNING, in no batch -> ready again, or when its segment is resumed; the attempt does not count.
void TaskTable::BackToPending(uint32_t number, Task* task, const Now& now) {
  Move(task, TaskState::kPending, now.wall_ms);
  LeaveSlot(task);
  if (task->attempt > 0) task->attempt--;
  task->due_at_ms = now.wall_ms;
  Segment* segment = SegmentOf(number);
  MarkDirty(segment);
  if (!segment->is_held) MakeReady(number, task, now);
}

bool TaskTable::Retry(Handle handle, double due_wall_ms, double due_mono_ms, bool spent,
                      const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr || task->state != TaskState::kRunning || (task->flags & kInBatch))
    return false;
  const auto number = static_cast<uint32_t>(handle);
  Segment* segment = SegmentOf(number);
  if (segment->is_released) return false;
  Move(task, TaskState::kPending, now.wall_ms);
  LeaveSlot(task);
  if (!spent && task->attempt > 0) task->attempt--;
  task->due_at_ms = due_wall_ms;
  task->traits |= kWaitsHere;
  MarkDirty(segment);
  if (!segment->is_held) WaitUntil(number, task, due_mono_ms, now);
  return true;
}

TaskTable::RescheduleAnswer TaskTable::Reschedule(Handle handle, double due_wall_ms,
                                                  double due_mono_ms, bool by_date,
                                                  const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr) return RescheduleAnswer::kGone;
  const auto number = static_cast<uint32_t>(handle);
  Segment* segment = SegmentOf(number);
  if (segment->is_released) return RescheduleAnswer::kGone;
  if (task->state == TaskState::kRunning) return RescheduleAnswer::kRunning;
  if (task->state != TaskState::kPending) return RescheduleAnswer::kEnded;
  StopWaiting(task);
  task->due_at_ms = due_wall_ms;
  task->changed_at_ms = now.wall_ms;
  task->traits |= kMoved | kWaitsHere;
  if (by_date) task->traits &= ~uint32_t{kWaitsHere};
  MarkDirty(segment);
  if (!segment->is_held) WaitUntil(number, task, due_mono_ms, now);
  const uint32_t place = types_[task->type].place;
  if (place != kNone) SweepReady(QueueOf(place, false));
  return RescheduleAnswer::kRescheduled;
}

bool TaskTable::Redrive(Handle handle, const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr || task->state != TaskState::kFailed || (task->flags & kSettled) == 0) {
    return false;
  }
  const auto number = static_cast<uint32_t>(handle);
  Segment* segment = SegmentOf(number);
  if (segment->is_released) return false;
  SetState(task, TaskState::kPending);
  SetVersion(number, task, ReadAs<uint32_t>(RecordOf(number) + 56) + 1);
  task->changed_at_ms = now.wall_ms;
  task->due_at_ms = now.wall_ms;
  task->attempt = 0;
  task->losses = 0;
  task->mark = 0;
  segment->open++;
  counters_->open++;
  counters_->open_bytes += task->payload_length;
  MarkDirty(segment);
  if (!segment->is_held) WaitUntil(number, task, now.mono_ms, now);
  return true;
}

// The version stands in the record of the frame, which is the table's own copy.
void TaskTable::SetVersion(uint32_t number, Task* task, uint32_t version) {
  WriteAs<uint32_t>(const_cast<uint8_t*>(RecordOf(number)) + 56, version);
  // A time to live was for the first start.
  task->flags = 0;
  task->traits = kHasExtras | (KeyOf(*task) == kNone ? 0 : kKeyed);
}

bool TaskTable::End(Handle handle, TaskState state, const uint8_t* bytes, size_t length,
                    const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr || (task->flags & kInBatch)) return false;
  const auto number = static_cast<uint32_t>(handle);
  if (SegmentOf(number)->is_released) return false;
  const bool from_pending = state == TaskState::kCancelled || state == TaskState::kExpired;
  const bool from_running = state == TaskState::kCompleted || state == TaskState::kFailed ||
                            state == TaskState::kCancelled;
  if (!(task->state == TaskState::kPending && from_pending) &&
      !(task->state == TaskState::kRunning && from_running)) {
    return false;
  }
  EndBlock* end = nullptr;
  if (length > 0) {
    end = NewEnd(length);
    std::memcpy(end->bytes(), bytes, length);
  }
  Finish(number, task, state, end, 0, static_cast<uint32_t>(length), now.wall_ms);
  const uint32_t place = types_[task->type].place;
  if (place != kNone) {
    SweepReady(QueueOf(place, false));
    SweepReady(QueueOf(place, true));
  }
  return true;
}

uint32_t TaskTable::NoteLoss(Handle handle) {
  Task* task = FindTask(handle);
  if (task == nullptr || SegmentOf(static_cast<uint32_t>(handle))->is_released) return 0;
  if (task->losses < UINT16_MAX) task->losses++;
  return task->losses;
}

bool TaskTable::Isolate(Handle handle) {
  Task* task = FindTask(handle);
  if (task == nullptr || task->state >= TaskState::kCompleted) return false;
  if (SegmentOf(static_cast<uint32_t>(handle))->is_released) return false;
  task->traits |= kIsolated;
  return true;
}

TaskTable::CancelAnswer TaskTable::Cancel(Handle handle, const uint8_t* bytes, size_t length,
                                          const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr) return CancelAnswer::kGone;
  if (task->state == TaskState::kRunning) {
    task->flags |= kCancelAsked;
    return CancelAnswer::kRunning;
  }
  return End(handle, TaskState::kCancelled, bytes, length, now) ? CancelAnswer::kCancelled
                                                                : CancelAnswer::kEnded;
}

TaskTable::WatchAnswer TaskTable::Watch(Handle handle) {
  Task* task = FindTask(handle);
  if (task == nullptr || SegmentOf(static_cast<uint32_t>(handle))->is_released) {
    return WatchAnswer::kGone;
  }
  if (task->flags & kSettled) return WatchAnswer::kSettled;
  task->flags |= kWatched;
  return WatchAnswer::kWatching;
}

void TaskTable::Unwatch(Handle handle) {
  Task* task = FindTask(handle);
  if (task != nullptr) task->flags &= static_cast<uint8_t>(~kWatched);
}

// ---- Looking
// ----------------------------------------------------------------------------------------------------

bool TaskTable::View(Handle handle, TaskView* out) const {
  const Task* task = FindTask(handle);
  if (task == nullptr) return false;
  const auto number = static_cast<uint32_t>(handle);
  const Segment* segment = SegmentOf(number);
  const uint8_t* record = RecordOf(number);
  const uint8_t* bytes = segment->frame + segment->bytes_offset;
  out->state = task->state;
  out->is_settled = (task->flags & kSettled) != 0;
  out->is_filed = (task->flags & kFiled) != 0;
  out->is_ready = (task->flags & kReady) != 0;
  out->is_cancel_asked = (task->flags & kCancelAsked) != 0;
  out->must_be_alone = task->state < TaskState::kCompleted && MustBeAlone(*task);
  out->priority = task->priority;
  out->attempt = task->attempt;
  out->losses = task->losses;
  out->index = IndexOf(number);
  out->type = task->type;
  out->version = ReadAs<uint32_t>(record + 56);
  out->due_at_ms = task->due_at_ms;
  out->changed_at_ms = task->changed_at_ms;
  out->submitted_at_ms = ReadAs<double>(record + 8);
  out->expires_at_ms = ExpiresAt(number, *task);
  out->type_name = &strings_.Text(types_[task->type].name);
  out->tenant = &strings_.Text(task->tenant);
  out->payload = bytes + task->payload_at;
  out->payload_length = task->payload_length;
  out->metadata = bytes + ReadAs<uint32_t>(record + 48);
  out->metadata_length = ReadAs<uint32_t>(record + 52);
  const bool has_end = task->state >= TaskState::kCompleted && task->end != nullptr;
  out->end = has_end ? task->end->bytes() + task->end_at : nullptr;
  out->end_length = has_end ? task->end_length : 0;
  out->is_released = segment->is_released;
  out->is_parked = task->state == TaskState::kPending && (task->traits & kParked) != 0;
  out->segment = HandleOf(segment);
  return true;
}

bool TaskTable::Ref(Handle handle, Text* out) const {
  const Segment* segment = FindSegment(handle);
  if (segment == nullptr) return false;
  *out = {segment->ref, segment->ref_length};
  return true;
}

bool TaskTable::ViewSegment(Handle handle, SegmentView* out) const {
  const Segment* segment = FindSegment(handle);
  if (segment == nullptr) return false;
  *out = {segment->count, segment->open, segment->has_overlay, segment->is_dirty,
          segment->takes_overlay};
  if (segment->is_released) {
    out->tasks = segment->open;
    out->open = 0;
  }
  return true;
}

size_t TaskTable::bytes() const {
  size_t ready = 0;
  for (const ReadyQueue& queue : ready_) ready += queue.bytes();
  return sizeof(*this) + slab_.bytes() + timers_.bytes() + ready + strings_.bytes() +
         refs_.bytes() + pages_.size() * kPageChunk * sizeof(Page) +
         types_.capacity() * sizeof(Type) + expired_.capacity() * sizeof(Handle);
}

}  // namespace millrace

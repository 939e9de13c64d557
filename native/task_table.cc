// The table itself: segments in and out, types, states, time. Batches are in task_batches.cc,
// commits in task_cuts.cc.
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
constexpr size_t kFrameBytesMax = size_t{1} << 30;

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
  return IndexOf(number) < page.segment->count ? At(number) : nullptr;
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

// ---- Segments
// ---------------------------------------------------------------------------------------------------

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
  refs_.Insert(hash, segment->page);
  counters_->segments++;
  counters_->tasks += count;
  counters_->open += count;
  counters_->open_bytes += payload_bytes;
  counters_->states[0] += count;
  *out = HandleOf(segment);
  if (in.hold) return IngestError::kNone;

  // Time that passed without anything due: what comes is placed by its distance from the present.
  timers_.Advance(FloorTick(now.mono_ms), nullptr, 0);
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
  if (segment == nullptr || !segment->is_held || segment->has_overlay) return false;
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
    SetState(task, state.state);
    if (state.state == TaskState::kRunning) {
      const Text& executor = texts_[state.executor];
      task->mark = strings_.Acquire(executor.data, executor.length);
    } else if (state.state >= TaskState::kCompleted) {
      task->flags |= kFiled | kSettled;
      task->end_at = 0;
      segment->open--;
      counters_->open--;
      counters_->open_bytes -= task->payload_length;
    }
  }
  segment->has_overlay = true;
  return true;
}

TaskTable::Resumed TaskTable::Resume(Handle handle, const Now& now, std::vector<Handle>* lost) {
  Resumed resumed;
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || !segment->is_held) return resumed;
  segment->is_held = false;
  timers_.Advance(FloorTick(now.mono_ms), nullptr, 0);
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if (task->state >= TaskState::kCompleted) continue;
    resumed.open++;
    resumed.open_bytes += task->payload_length;
    const uint32_t number = NumberOf(segment, i);
    if (task->state == TaskState::kRunning) {
      lost->push_back(HandleOf(number));
    } else {
      WaitUntil(number, task, now.mono_ms + (task->due_at_ms - now.wall_ms), now);
    }
  }
  // Everything has ended, and the process died before it could delete it.
  if (segment->open == 0) MarkDirty(segment);
  return resumed;
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
  return HandleOf(NumberOf(segment, index));
}

bool TaskTable::Drop(Handle handle) {
  Segment* segment = FindSegment(handle);
  if (segment == nullptr || segment->in_batches > 0) return false;
  UnmarkDirty(segment);
  for (uint32_t i = 0; i < segment->count; i++) {
    Task* task = segment->tasks() + i;
    if (task->state == TaskState::kPending) {
      const bool waits = (task->flags & kTimed) != 0 && (task->flags & kReady) == 0;
      if (waits) counters_->delayed--;
      StopTimer(task);
      LeaveReady(task);
    } else if (task->state == TaskState::kRunning) {
      ReleaseString(task->mark);
    } else {
      ReleaseEnd(task);
    }
    counters_->states[static_cast<size_t>(task->state)]--;
    if ((task->flags & kSettled) == 0) {
      counters_->open--;
      counters_->open_bytes -= task->payload_length;
    }
  }
  for (uint32_t i = 0; i < segment->string_count; i++) {
    if (segment->strings[i] != kNone) ReleaseString(segment->strings[i]);
  }
  refs_.Erase(segment->ref_hash, segment->page);
  counters_->segments--;
  counters_->tasks -= segment->count;
  const SlabBlock block = segment->block;
  FreePages(segment->page);
  slab_.Free(block);
  for (uint32_t queue = 0; queue < kQueues; queue++) SweepReady(queue);
  return true;
}

// ---- Time
// -------------------------------------------------------------------------------------------------------

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
        expired_.push_back(HandleOf(due_[i]));
        counters_->expired++;
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
    // Cancelled or dropped meanwhile?
    const Task* task = FindTask(handle);
    if (task != nullptr && task->state == TaskState::kPending) out[count++] = handle;
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
    const double left_ms = ExpiresAt(number) - now.wall_ms;
    if (left_ms <= 0) {
      expired_.push_back(HandleOf(number));
      counters_->expired++;
      return;
    }
    StartTimer(number, task, now.mono_ms + left_ms);
  }
  EnterReady(number, task, now);
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
  task->mark = ready_[QueueOf(*task)].Push(QueueTypeOf(*task), task->priority, task->tenant, number,
                                           now.mono_ms);
  counters_->ready[type.place]++;
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
  ready_[QueueOf(*task)].Forget(QueueTypeOf(*task));
  counters_->ready[type.place]--;
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

// ---- States
// -----------------------------------------------------------------------------------------------------

void TaskTable::SetState(Task* task, TaskState state) {
  counters_->states[static_cast<size_t>(task->state)]--;
  counters_->states[static_cast<size_t>(state)]++;
  task->state = state;
}

// To another state, whose bookkeeping is the caller's. REQUIRES: the step is one of
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

// A task ends. REQUIRES: it is in no batch, and the step is allowed.
void TaskTable::Finish(uint32_t number, Task* task, TaskState state, EndBlock* end, uint32_t at,
                       uint32_t length, double at_ms) {
  if (task->state == TaskState::kPending) {
    if ((task->flags & kTimed) && !(task->flags & kReady)) counters_->delayed--;
    StopTimer(task);
    LeaveReady(task);
  }
  Move(task, state, at_ms);
  task->end = length == 0 ? nullptr : end;
  task->end_at = at;
  task->end_length = length;
  if (task->end != nullptr) end->references++;
  Segment* segment = SegmentOf(number);
  AppendEnded(segment, IndexOf(number));
  MarkDirty(segment);
}

// RUNNING, in no batch -> ready again; the attempt does not count.
void TaskTable::BackToPending(uint32_t number, Task* task, const Now& now) {
  Move(task, TaskState::kPending, now.wall_ms);
  if (task->attempt > 0) task->attempt--;
  task->due_at_ms = now.wall_ms;
  MarkDirty(SegmentOf(number));
  MakeReady(number, task, now);
}

bool TaskTable::Retry(Handle handle, double due_wall_ms, double due_mono_ms, bool spent,
                      const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr || task->state != TaskState::kRunning || (task->flags & kInBatch))
    return false;
  const auto number = static_cast<uint32_t>(handle);
  if (SegmentOf(number)->is_held) return false;
  Move(task, TaskState::kPending, now.wall_ms);
  if (!spent && task->attempt > 0) task->attempt--;
  task->due_at_ms = due_wall_ms;
  MarkDirty(SegmentOf(number));
  WaitUntil(number, task, due_mono_ms, now);
  return true;
}

bool TaskTable::End(Handle handle, TaskState state, const uint8_t* bytes, size_t length,
                    const Now& now) {
  Task* task = FindTask(handle);
  if (task == nullptr || (task->flags & kInBatch)) return false;
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
  const auto number = static_cast<uint32_t>(handle);
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
  if (task == nullptr) return 0;
  if (task->losses < UINT16_MAX) task->losses++;
  return task->losses;
}

bool TaskTable::Isolate(Handle handle) {
  Task* task = FindTask(handle);
  if (task == nullptr || task->state >= TaskState::kCompleted) return false;
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
  if (task == nullptr) return WatchAnswer::kGone;
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
  out->expires_at_ms = ReadAs<double>(record + 16);
  out->type_name = &strings_.Text(types_[task->type].name);
  out->tenant = &strings_.Text(task->tenant);
  out->payload = bytes + task->payload_at;
  out->payload_length = task->payload_length;
  out->metadata = bytes + ReadAs<uint32_t>(record + 48);
  out->metadata_length = ReadAs<uint32_t>(record + 52);
  const bool has_end = task->state >= TaskState::kCompleted && task->end != nullptr;
  out->end = has_end ? task->end->bytes() + task->end_at : nullptr;
  out->end_length = has_end ? task->end_length : 0;
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
  *out = {segment->count, segment->open, segment->has_overlay, segment->is_dirty};
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

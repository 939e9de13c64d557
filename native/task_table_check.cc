// The invariants of the task table, verified in debug and sanitizer builds.
#include <cstdio>

#include "task_table.h"

namespace millrace {

#if defined(MILLRACE_CHECK)

namespace {
bool Fails(const char* what) {
  std::fprintf(stderr, "task table: %s\n", what);
  return false;
}
}  // namespace

bool TaskTable::Check() {
  if (!slab_.Check()) return Fails("the slab is damaged");
  if (!timers_.Check()) return Fails("the wheel is damaged");
  TaskCounters seen = {};
  size_t released = 0;
  size_t timed = 0;
  uint32_t dirty = 0;
  size_t parked[kPlaces] = {};
  uint32_t slots = 0;
  for (uint32_t page = 0; page < page_limit_; page++) {
    const Page& first = PageAt(page);
    if (first.tasks == nullptr || first.part != 0) continue;
    const Segment* segment = first.segment;
    if (segment->page != page) return Fails("a segment does not know its page");
    seen.segments++;
    if (segment->is_released) released++;
    if (segment->is_dirty) dirty++;
    if (segment->is_released && (segment->is_dirty || segment->is_held || segment->open == 0)) {
      return Fails("a segment is released that is dirty, held, or of no use any more");
    }
    const bool has_name = Find({segment->ref, segment->ref_length}) == HandleOf(segment);
    if (has_name == segment->is_released) return Fails("a name leads to the wrong segment");
    uint32_t open = 0;
    uint32_t in_batches = 0;
    uint32_t unfiled = 0;
    for (uint32_t i = 0; i < segment->count; i++) {
      const uint32_t number = NumberOf(segment, i);
      const Task* task = At(number);
      if (task != segment->tasks() + i) return Fails("a number leads to another task");
      const bool is_forgotten = IsForgotten(segment, *task);
      if ((FindTask(HandleOf(number)) == nullptr) != is_forgotten) return Fails("a handle is bad");
      if (is_forgotten) {
        if (task->flags != 0) return Fails("one that is forgotten is somewhere");
        continue;
      }
      seen.tasks++;
      const bool is_pending = task->state == TaskState::kPending;
      if (task->state < TaskState::kCompleted && (task->traits & kHasSlot) != 0) slots++;
      const bool is_ended = task->state >= TaskState::kCompleted;
      seen.states[static_cast<size_t>(task->state)]++;
      if ((task->flags & (kTimed | kReady)) && !is_pending)
        return Fails("one that waits is not pending");
      if ((task->flags & kInBatch) && task->state != TaskState::kRunning) {
        return Fails("one in a batch does not run");
      }
      if ((task->flags & (kTimed | kReady)) && segment->is_held)
        return Fails("one that is held waits");
      if (is_pending && (task->traits & kListed) &&
          (segment->is_held || (task->flags & (kTimed | kReady)))) {
        return Fails("one that has expired is elsewhere too");
      }
      const bool has_executor = is_ended ? task->mark != kNone : !is_pending;
      if (has_executor &&
          (task->mark >= strings_.limit() || strings_.references(task->mark) == 0)) {
        return Fails("nobody knows who runs a task");
      }
      if ((task->flags & kSettled) && has_executor) return Fails("a settled task names who ran it");
      if ((task->flags & kFiled) && !is_ended) return Fails("one that is filed has not ended");
      if ((task->flags & kSettled) && !(task->flags & kFiled)) return Fails("settled, not filed");
      if (task->flags & kTimed) timed++;
      if ((task->flags & kTimed) && !(task->flags & kReady)) seen.delayed++;
      if (task->flags & kReady) {
        const uint32_t place = types_[task->type].place;
        (place == kNone ? seen.unhandled : seen.ready[place])++;
        if (place != kNone && (task->traits & kParked) != 0) parked[place]++;
      }
      if (task->flags & kInBatch) {
        in_batches++;
        seen.running++;
        if (task->link >= batches_.size() || !batches_[task->link].used)
          return Fails("no such batch");
      }
      if (!(task->flags & kFiled)) open++;
      if (is_ended && !(task->flags & kFiled)) unfiled++;
      if (!(task->flags & kSettled) && !segment->is_released) {
        seen.open++;
        seen.open_bytes += task->payload_length;
      }
    }
    if (open != segment->open) return Fails("a segment's open tasks are miscounted");
    if (in_batches != segment->in_batches) return Fails("a segment's running tasks are miscounted");
    uint32_t listed = 0;
    for (uint32_t i = segment->ended_first; i != kNone; i = segment->tasks()[i].link) {
      if (++listed > unfiled) return Fails("an ended task is listed twice");
      const Task& task = segment->tasks()[i];
      if (task.state < TaskState::kCompleted || (task.flags & kFiled)) {
        return Fails("one is listed as ended that is not, or is filed");
      }
    }
    if (listed != unfiled || listed != segment->ended_count)
      return Fails("an ended task is not listed");
  }
  if (seen.segments != counters_->segments || seen.tasks != counters_->tasks ||
      seen.open != counters_->open || seen.open_bytes != counters_->open_bytes ||
      seen.delayed != counters_->delayed || seen.unhandled != counters_->unhandled ||
      seen.running != counters_->running || dirty != counters_->dirty) {
    return Fails("the counters are wrong");
  }
  for (size_t state = 0; state < kTaskStates; state++) {
    if (seen.states[state] != counters_->states[state]) return Fails("the states are miscounted");
  }
  if (refs_.size() + released != static_cast<size_t>(seen.segments))
    return Fails("the index of names is wrong");
  if (timed != timers_.size()) return Fails("a timer belongs to no task");
  for (uint32_t place = 0; place < kPlaces; place++) {
    const ReadyQueue& shared = ready_[QueueOf(place, false)];
    const ReadyQueue& alone = ready_[QueueOf(place, true)];
    if (!shared.Check() || !alone.Check()) return false;
    if (shared.size() + alone.size() + parked[place] != static_cast<size_t>(seen.ready[place]) ||
        seen.ready[place] != counters_->ready[place]) {
      return Fails("the ready tasks are miscounted");
    }
  }
  for (const auto& entry : keys_) slots -= entry.second.used;
  if (slots != 0) return Fails("the slots of keys are miscounted");
  uint32_t walked = 0;
  for (uint32_t page = dirty_first_; page != kNone; page = PageAt(page).segment->dirty_next) {
    if (++walked > dirty) return Fails("the list of dirty segments is damaged");
  }
  return walked == dirty || Fails("a dirty segment is not listed");
}

#else

bool TaskTable::Check() { return true; }

#endif

}  // namespace millrace

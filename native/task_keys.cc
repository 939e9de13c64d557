// Keys: tasks that share one run so many at a time, whatever their types allow besides.
//
// A task with a key is in a ready queue only while it has a slot of its key, and keeps that until it
// ends, waits for a time again, or belongs to somebody else. So whatever is in a ready queue may
// run, and the queues know nothing of keys. Who finds no slot is parked, behind those that were
// ready before it: a slot that comes free goes to the first of them, which makes it ready.
//
// What runs under another process has its slot, too: overlays say so before anything is resumed. There
// may be more of those than slots; then nobody is let in before there are fewer.
//
// Cost: none for tasks without a key, but a look at their traits; a few hash look-ups for the others.
// Those that leave while they are parked stay in its list until they come up.
#include <vector>

#include "task_table.h"

namespace millrace {

// REQUIRES: the task has been taken in, with these bytes as its key.
void TaskTable::SetKey(uint32_t number, const Text& key) {
  Task* task = At(number);
  task->traits |= kKeyed;
  keyed_[task] = {number, strings_.Acquire(key.data, key.length)};
}

uint32_t TaskTable::KeyOf(const Task& task) const {
  if (keyed_.empty()) return kNone;
  const auto found = keyed_.find(&task);
  return found == keyed_.end() ? kNone : found->second.key;
}

// It is due: ready as soon as there is a slot.
void TaskTable::ParkForSlot(Task* task) {
  const Keyed& keyed = keyed_.at(task);
  task->traits |= kParked;
  task->mark = 0;
  keys_[keyed.key].parked.push_back(HandleOf(keyed.number));
  LetIn(keyed.key);
}

// It runs, whoever let it.
void TaskTable::TakeSlot(Task* task) {
  task->traits |= kHasSlot;
  keys_[keyed_.at(task).key].used++;
}

// It needs its slot no more, if it has one. REQUIRES: it has not ended.
void TaskTable::LeaveSlot(Task* task) {
  if ((task->traits & kHasSlot) == 0) return;
  task->traits &= ~uint32_t{kHasSlot};
  const uint32_t key = keyed_.at(task).key;
  keys_[key].used--;
  LetIn(key);
}

void TaskTable::LetIn(uint32_t key) {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return;
  Key& k = found->second;
  while (!k.parked.empty()) {
    const Handle handle = k.parked.front();
    Task* task = FindTask(handle);
    const bool is_parked = task != nullptr && task->state == TaskState::kPending &&
                           (task->traits & kParked) != 0;
    if (is_parked && k.used >= types_[task->type].per_key) return;
    k.parked.pop_front();
    if (!is_parked) continue;
    k.used++;
    task->traits = (task->traits & ~uint32_t{kParked}) | kHasSlot;
    // Its age counts from here: before it had no turn to lose.
    task->mark = ready_[QueueOf(*task)].Push(QueueTypeOf(*task), task->priority, task->tenant,
                                             static_cast<uint32_t>(handle), 0);
  }
  if (k.used == 0) keys_.erase(found);
}

// A type may let more in than before.
void TaskTable::LetAllIn() {
  std::vector<uint32_t> keys;
  keys.reserve(keys_.size());
  for (const auto& entry : keys_) keys.push_back(entry.first);
  for (const uint32_t key : keys) LetIn(key);
}

void TaskTable::ForgetKey(Task* task) {
  const auto found = keyed_.find(task);
  if (found == keyed_.end()) return;
  const uint32_t key = found->second.key;
  keyed_.erase(found);
  ReleaseString(key);
}

}  // namespace millrace

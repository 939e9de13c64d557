// Limits beside how many of a type may run: credits of types and of tenants, tenants that are
// stopped.
//
// A tenant is passed over by the ready queues while it is stopped there, which costs nothing per
// task (ready_queue.h). Two things stop it: somebody did, or it has spent its credits. Credits of a
// tenant are kept only while it has spent some: who has as many as it may have is forgotten.
//
// Those that run alone share a queue in which types are not told apart, so what a type's limits
// hold back there is set aside while the queue is looked through.
#include <algorithm>
#include <cmath>

#include "task_table.h"

namespace millrace {

void TaskTable::StopTenant(const Text& tenant, bool is_stopped) {
  const uint32_t string = strings_.Acquire(tenant.data, tenant.length);
  const bool was_stopped = stopped_tenants_.count(string) != 0;
  if (is_stopped && !was_stopped) {
    // The reference stays, so that the number keeps meaning this tenant.
    stopped_tenants_.insert(string);
    ApplyStop(kNone, string);
    return;
  }
  if (!is_stopped && was_stopped) {
    stopped_tenants_.erase(string);
    ApplyStop(kNone, string);
    ReleaseString(string);
  }
  ReleaseString(string);
}

void TaskTable::AddCredits(uint32_t type, double credits, double max) {
  const Type& t = types_[type];
  ReadyQueue& queue = ready_[t.place];
  if (std::isinf(queue.credits(t.queue_type))) {
    queue.SetCredits(t.queue_type, max);
  } else if (std::isinf(max)) {
    queue.SetCredits(t.queue_type, max);
  } else {
    queue.AddCredits(t.queue_type, credits, max);
  }
}

size_t TaskTable::AddTenantCredits(uint32_t type, double credits, double max) {
  if (type == kNone) {
    tenant_credits_max_ = max;
  } else {
    types_[type].tenant_credits_max = max;
  }
  limits_tenants_ = !std::isinf(tenant_credits_max_) ||
                    std::any_of(types_.begin(), types_.end(), [](const Type& t) {
                      return !std::isinf(t.tenant_credits_max);
                    });
  size_t left = 0;
  for (auto at = tenant_credits_.begin(); at != tenant_credits_.end();) {
    if (at->first >> 32 != type) {
      ++at;
      continue;
    }
    const auto tenant = static_cast<uint32_t>(at->first);
    at->second += credits;
    if (at->second < max && !std::isinf(max)) {
      if (at->second >= 1) ApplyStop(type, tenant);
      ++at;
      left++;
      continue;
    }
    at = tenant_credits_.erase(at);
    ApplyStop(type, tenant);
    ReleaseString(tenant);
  }
  return left;
}

double TaskTable::Credits(uint32_t type) const {
  const Type& t = types_[type];
  if (t.place == kNone) return std::numeric_limits<double>::infinity();
  return ready_[t.place].credits(t.queue_type);
}

double TaskTable::TenantCredits(uint32_t type, const Text& tenant) const {
  const uint32_t string = strings_.Find(tenant.data, tenant.length);
  const auto found = string == HashIndex::kNone ? tenant_credits_.end()
                                                : tenant_credits_.find(ScopeOf(type, string));
  return found == tenant_credits_.end() ? TenantCreditsMax(type) : found->second;
}

bool TaskTable::HasTenantCredit(uint32_t type, uint32_t tenant) const {
  if (!limits_tenants_) return true;
  const auto found = tenant_credits_.find(ScopeOf(type, tenant));
  return found == tenant_credits_.end() ? TenantCreditsMax(type) >= 1 : found->second >= 1;
}

// A task of this tenant is claimed.
void TaskTable::SpendTenantCredits(uint32_t type, uint32_t tenant) {
  SpendTenantCredit(kNone, tenant);
  SpendTenantCredit(type, tenant);
}

void TaskTable::SpendTenantCredit(uint32_t scope_type, uint32_t tenant) {
  const double max = TenantCreditsMax(scope_type);
  if (std::isinf(max)) return;
  const auto [at, is_new] = tenant_credits_.emplace(ScopeOf(scope_type, tenant), max);
  if (is_new) strings_.AddReference(tenant);
  at->second -= 1;
  if (at->second < 1) ApplyStop(scope_type, tenant);
}

// Stops or starts a tenant where what it has now says so.
void TaskTable::ApplyStop(uint32_t type, uint32_t tenant) {
  bool is_stopped = type == kNone && stopped_tenants_.count(tenant) != 0;
  const auto found = tenant_credits_.find(ScopeOf(type, tenant));
  if (found != tenant_credits_.end() && found->second < 1) is_stopped = true;
  const auto apply = [&](ReadyQueue* queue, uint32_t queue_type) {
    if (is_stopped) {
      queue->Stop(queue_type, tenant);
    } else {
      queue->Start(queue_type, tenant);
    }
  };
  if (type == kNone) {
    for (ReadyQueue& queue : ready_) apply(&queue, ReadyQueue::kNone);
  } else if (types_[type].place != kNone) {
    apply(&ready_[types_[type].place], types_[type].queue_type);
  }
}

// What was set aside is ready again, behind the others.
void TaskTable::ReturnAside(uint32_t queue, const Now& now) {
  for (const uint32_t number : aside_) {
    Task* task = At(number);
    task->mark =
        ready_[queue].Push(QueueTypeOf(*task), task->priority, task->tenant, number, now.mono_ms);
  }
  aside_.clear();
}

}  // namespace millrace

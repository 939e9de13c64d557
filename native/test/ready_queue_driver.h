// ReadyQueueDriver: a ReadyQueue with the plainest possible model next to it: every entry in one
// list, every rule applied by looking at all of them. After each step both have to agree.
#ifndef MILLRACE_NATIVE_TEST_READY_QUEUE_DRIVER_H_
#define MILLRACE_NATIVE_TEST_READY_QUEUE_DRIVER_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "../ready_queue.h"

namespace millrace {

class ReadyQueueDriver {
 public:
  struct Item {
    uint32_t type;
    int priority;
    uint32_t tenant;
    uint32_t token;
    uint32_t stamp;
    uint64_t order;
    uint32_t q;
    bool stale;
  };

  explicit ReadyQueueDriver(double ageing_ms) : queue_(ageing_ms), ageing_ms_(ageing_ms) {}

  void AddType(uint32_t limit) {
    queue_.AddType(limit);
    limits_.push_back(limit);
    running_.push_back(0);
  }

  void SetLimit(uint32_t type, uint32_t limit) {
    queue_.SetLimit(type, limit);
    limits_[type] = limit;
  }

  // Weights are powers of two, so that sums of their inverses are exact.
  void SetWeight(uint32_t tenant, int exponent) {
    const double weight = exponent >= 0 ? 1 << exponent : 1.0 / (1 << -exponent);
    queue_.SetWeight(tenant, weight);
    weights_[tenant] = weight;
  }

  // `type` kNone: of all.
  void SetStopped(uint32_t type, uint32_t tenant, bool is_stopped) {
    if (is_stopped) {
      queue_.Stop(type, tenant);
      stops_.insert({type, tenant});
      return;
    }
    queue_.Start(type, tenant);
    if (stops_.erase({type, tenant}) == 0) return;
    // Whoever goes on has saved up no claim.
    for (const Item& item : items_) {
      if (item.tenant != tenant || (type != ReadyQueue::kNone && item.type != type)) continue;
      if (IsStopped(item)) continue;
      Level& level = levels_[item.priority];
      level.passes[tenant] = std::max(level.passes[tenant], level.virtual_time);
    }
  }

  void SetCredits(uint32_t type, uint32_t credits) {
    queue_.SetCredits(type, credits);
    credits_[type] = credits;
  }

  void Push(uint32_t type, int priority, uint32_t tenant, double now_ms) {
    now_ms_ = std::max(now_ms_, now_ms);
    const uint32_t token = next_token_++;
    const uint32_t stamp = queue_.Push(type, static_cast<int16_t>(priority), tenant, token, now_ms);
    Level& level = levels_[priority];
    if (Count(priority, tenant) == 0) {
      double& pass = level.passes[tenant];
      pass = std::max(pass, level.virtual_time);
    }
    const uint32_t q = ageing_ms_ > 0 ? static_cast<uint32_t>(now_ms_ / (ageing_ms_ / 8)) : 0;
    items_.push_back({type, priority, tenant, token, stamp, next_order_++, q, false});
  }

  // An entry goes stale, the i-th of those that are not.
  void Forget(size_t i) {
    for (Item& item : items_) {
      if (item.stale || i-- > 0) continue;
      item.stale = true;
      queue_.Forget(item.type, static_cast<int16_t>(item.priority), item.tenant);
      return;
    }
  }

  // Takes what comes next. Whether the queue and the model agree on it; *token is ~0 if there is
  // nothing.
  bool Take(uint32_t* token) {
    for (;;) {
      ReadyQueue::Head head;
      const bool found = queue_.Peek(&head);
      const std::set<uint64_t> good = Acceptable();
      *token = ~0u;
      if (found != !good.empty()) return false;
      if (!found) return true;
      const auto item = std::find_if(items_.begin(), items_.end(), [&](const Item& known) {
        return known.token == head.token && known.stamp == head.stamp;
      });
      if (item == items_.end() || good.count(item->order) == 0 || item->type != head.type) {
        return false;
      }
      const Item taken = *item;
      items_.erase(item);
      if (taken.stale) {
        queue_.Skip(head);
        Left(taken);
        continue;
      }
      queue_.Take(head);
      running_[taken.type]++;
      if (credits_.count(taken.type) != 0) credits_[taken.type]--;
      Level& level = levels_[taken.priority];
      double& pass = level.passes[taken.tenant];
      level.virtual_time = std::max(level.virtual_time, pass);
      const auto weight = weights_.find(taken.tenant);
      pass += 1 / (weight == weights_.end() ? 1 : weight->second);
      level.pass_max = std::max(level.pass_max, pass);
      Left(taken);
      *token = taken.token;
      return true;
    }
  }

  void Release(uint32_t type) {
    if (running_[type] == 0) return;
    running_[type]--;
    queue_.Release(type);
  }

  void Sweep() {
    queue_.Sweep(
        [](void* data, uint32_t token, uint32_t stamp) {
          const auto* driver = static_cast<const ReadyQueueDriver*>(data);
          for (const Item& item : driver->items_) {
            if (item.token == token && item.stamp == stamp) return !item.stale;
          }
          return false;
        },
        this);
    while (true) {
      const auto item =
          std::find_if(items_.begin(), items_.end(), [](const Item& known) { return known.stale; });
      if (item == items_.end()) return;
      const Item dropped = *item;
      items_.erase(item);
      Left(dropped);
    }
  }

  bool Agrees() const {
    size_t live = 0;
    size_t takeable = 0;
    for (uint32_t type = 0; type < limits_.size(); type++) {
      size_t of_type = 0;
      size_t going = 0;
      for (const Item& item : items_) {
        of_type += item.type == type && !item.stale;
        going += item.type == type && !item.stale && !IsStopped(item);
      }
      live += of_type;
      takeable += std::min(going, RoomOf(type));
      if (queue_.size(type) != of_type || queue_.running(type) != running_[type]) return false;
    }
    return queue_.size() == live && queue_.Takeable(SIZE_MAX) == takeable && queue_.Check();
  }

  ReadyQueue& queue() { return queue_; }
  size_t entries() const { return items_.size(); }
  uint32_t types() const { return static_cast<uint32_t>(limits_.size()); }

 private:
  struct Level {
    double virtual_time = 0;
    double pass_max = 0;
    std::map<uint32_t, double> passes;
  };

  bool IsStopped(const Item& item) const {
    return stops_.count({ReadyQueue::kNone, item.tenant}) != 0 ||
           stops_.count({item.type, item.tenant}) != 0;
  }

  size_t RoomOf(uint32_t type) const {
    const size_t room = limits_[type] > running_[type] ? limits_[type] - running_[type] : 0;
    const auto credits = credits_.find(type);
    return credits == credits_.end() ? room : std::min<size_t>(room, credits->second);
  }

  size_t Count(int priority, uint32_t tenant) const {
    size_t count = 0;
    for (const Item& item : items_) count += item.priority == priority && item.tenant == tenant;
    return count;
  }

  // An entry has left its level: was it the last?
  void Left(const Item& left) {
    for (const Item& item : items_) {
      if (item.priority == left.priority) return;
    }
    levels_[left.priority].virtual_time = levels_[left.priority].pass_max;
  }

  // The entries (by order) that may go next. More than one only among those that are equally old
  // and go by age.
  std::set<uint64_t> Acceptable() {
    using Lane = std::pair<uint32_t, int>;
    std::map<Lane, uint32_t> oldest;
    std::map<std::pair<Lane, uint32_t>, const Item*> heads;
    for (const Item& item : items_) {
      if (RoomOf(item.type) == 0 || IsStopped(item)) continue;
      const Lane lane = {item.type, item.priority};
      const auto at = oldest.emplace(lane, item.q).first;
      at->second = std::min(at->second, item.q);
      heads.emplace(std::make_pair(lane, item.tenant), &item);
    }
    if (oldest.empty()) return {};
    int priority_max = INT32_MIN;
    int64_t key_max = INT64_MIN;
    int key_priority = INT32_MIN;
    for (const auto& [lane, q] : oldest) {
      const int64_t key = int64_t{8} * lane.second - q;
      priority_max = std::max(priority_max, lane.second);
      if (key > key_max || (key == key_max && lane.second > key_priority)) {
        key_max = key;
        key_priority = lane.second;
      }
    }
    std::set<uint64_t> good;
    if (key_priority < priority_max) {
      for (const auto& [flow, head] : heads) {
        const int64_t key = int64_t{8} * flow.first.second - oldest[flow.first];
        if (key == key_max && flow.first.second == key_priority && head->q == oldest[flow.first]) {
          good.insert(head->order);
        }
      }
      return good;
    }
    const Item* best = nullptr;
    for (const auto& [flow, head] : heads) {
      if (flow.first.second != priority_max) continue;
      auto& passes = levels_[priority_max].passes;
      if (best == nullptr || passes[head->tenant] < passes[best->tenant] ||
          (passes[head->tenant] == passes[best->tenant] && head->order < best->order)) {
        best = head;
      }
    }
    good.insert(best->order);
    return good;
  }

  ReadyQueue queue_;
  const double ageing_ms_;
  std::vector<Item> items_;
  std::vector<uint32_t> limits_;
  std::vector<uint32_t> running_;
  std::map<int, Level> levels_;
  std::map<uint32_t, double> weights_;
  std::map<uint32_t, uint32_t> credits_;
  std::set<std::pair<uint32_t, uint32_t>> stops_;
  double now_ms_ = 0;
  uint32_t next_token_ = 0;
  uint64_t next_order_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TEST_READY_QUEUE_DRIVER_H_

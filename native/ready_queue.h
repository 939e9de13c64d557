// ReadyQueue: what may run now, in the order in which it shall: by priority, fairly between
// tenants, first come first served within one. It holds numbers (tokens), off the JavaScript heap,
// 12 bytes each.
//
//   type  a kind of task with a limit of its own: at its limit it is passed over, without touching
//   what waits level one priority; strict: all of a higher level goes first, but for ageing group a
//   tenant within a level; has a pass, the virtual time at which it is served next lane  a type
//   within a level; its flows stand in a heap by (pass, arrival) flow  a tenant within a lane: a
//   FIFO of entries in chunks (chunk_arena.h)
//
//     type 1 --- lane (level 5) --- flow acme   [e e e e]     level 5 --- group acme (pass 12.5)
//           \-- lane (level 0) --- flow acme   [e e]                  \-- group zoo  (pass 12)
//                              \-- flow zoo    [e]          level 0 --- ...
//
// Fairness is stride scheduling (Waldspurger 1995): serving a tenant moves its pass on by 1 /
// weight, and the tenant with the lowest pass is served next. A tenant that comes back from having
// nothing starts at the level's present virtual time, so that idleness saves up no claim, or at its
// old pass if that is later, so that leaving and coming back gains none either. A tenant's pass
// counts for the whole level, whatever types its tasks have.
//
// Ageing. A task overtakes those of higher priority when it has waited `ageing_ms` longer per level
// between them. Waiting times all grow alike, so the comparison does not change with time: lanes
// are ordered by the constant
//
//     K = 8 * priority - q,   q = time of becoming ready of the oldest entry, in eighths of
//     ageing_ms
//
// If the lane with the highest K also has the highest priority there is, things go by fairness.
// Otherwise it is there by age, and its oldest entry's flow is served, so that age helps the old
// task and not the young ones behind it. The oldest entry is found through `arrivals`: a mark
// (flow, q) for each flow and eighth in which something came.
//
// Limits beside how many run. A type has credits: each that is taken costs one, and below one the
// type is passed over. A tenant can be stopped, for one type or for all: its flows then stand in no
// heap, keep what they have, and go on where they were. Both cost nothing while they are not used,
// and stopping costs nothing per entry; what waits stays counted.
//
// Entries are not taken out from the middle. Who changes its mind about one finds it stale when it
// comes up (Skip), says so at once (Forget), and everything stale is swept out when it outnumbers
// the rest (Sweep).
//
// Invariants: (1) a lane is in its type's heaps if and only if one of its flows is in its own; (2) a
// flow is in its lane's heap if and only if it has one and is not stopped; (3) a key in that heap is never later than
// the group's pass. Check() verifies.
//
// Thread safety: none. Time comes in as an argument.
// Cost: Push O(1), or O(log tenants + log levels) if the flow was empty; Peek O(types with
// entries), each O(1) amortized; Take O(log tenants + log levels).
#ifndef MILLRACE_NATIVE_READY_QUEUE_H_
#define MILLRACE_NATIVE_READY_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <unordered_set>
#include <vector>

#include "chunk_arena.h"
#include "hash_index.h"
#include "id_heap.h"

namespace millrace {

class ReadyQueue {
 public:
  static constexpr uint32_t kNoLimit = ~0u;
  static constexpr uint32_t kNone = ~0u;

  // The entry that goes next, as Peek found it. Good until the queue changes.
  struct Head {
    uint32_t token;
    uint32_t stamp;
    uint32_t type;
    uint32_t flow;
  };

  // `ageing_ms` 0: no ageing.
  explicit ReadyQueue(double ageing_ms);
  ReadyQueue(const ReadyQueue&) = delete;
  ReadyQueue& operator=(const ReadyQueue&) = delete;

  // A new type, of which `limit` may run at once. Types stay.
  uint32_t AddType(uint32_t limit);
  void SetLimit(uint32_t type, uint32_t limit) { types_[type].limit = limit; }
  // How much of a level a tenant gets in relation to others; 1 unless said. REQUIRES: weight > 0,
  // finite.
  void SetWeight(uint32_t tenant, double weight);

  // So many more of a type may be taken, at most `max` in all; infinite: as many as there are.
  void AddCredits(uint32_t type, double credits, double max);
  // Without credits, nothing of a type is taken. Unlimited until this is called.
  void SetCredits(uint32_t type, double credits) { types_[type].credits = credits; }
  double credits(uint32_t type) const { return types_[type].credits; }
  // Nothing of a tenant is taken, of this type or (kNone) of any, until it is started again.
  // Cost: Stop O(tenants + types); Start also O(entries of the tenant). Once more is fine.
  void Stop(uint32_t type, uint32_t tenant) { SetStopped(type, tenant, true); }
  void Start(uint32_t type, uint32_t tenant) { SetStopped(type, tenant, false); }

  // Appends an entry and returns its stamp, which is never 0 and comes again after 2^32 entries.
  // Times that run backwards count as standing still.
  uint32_t Push(uint32_t type, int16_t priority, uint32_t tenant, uint32_t token, double now_ms);
  // Finds what goes next among the types below their limit. False if there is nothing.
  bool Peek(Head* head);
  // A token some places behind a head in its flow, to be fetched into the cache early; kNone if
  // there is none near.
  uint32_t Ahead(const Head& head, unsigned distance) const;
  // Takes the head: it counts as running until Release, and its tenant has been served.
  void Take(const Head& head);
  // Takes the head out because it is stale.
  void Skip(const Head& head);
  void Release(uint32_t type) { types_[type].running--; }
  // One of this type runs that another queue gave out.
  void Occupy(uint32_t type) {
    types_[type].running++;
    types_[type].credits -= 1;
  }
  bool is_shut(uint32_t type) const { return IsShut(types_[type]); }
  // An entry has become stale.
  void Forget(uint32_t type, int16_t priority, uint32_t tenant);

  // Whether so much is stale that a sweep is worth its cost.
  bool wants_sweep() const { return entries_ - live_ > live_ + kStaleMin; }
  // Drops the entries for which `is_current` is false. O(entries).
  void Sweep(bool (*is_current)(void* context, uint32_t token, uint32_t stamp), void* context);

  // Entries that are not stale; all types, those at their limit included.
  size_t size() const { return live_; }
  size_t size(uint32_t type) const { return types_[type].live; }
  uint32_t running(uint32_t type) const { return types_[type].running; }
  // How many could be taken now, counted up to `max`.
  size_t Takeable(size_t max) const;
  // Calls `use(tenant)` for each tenant that the queue still knows.
  template <typename Use>
  void ForEachTenant(Use use) const {
    for (const Group& group : groups_) {
      if (group.level != kNone) use(group.tenant);
    }
  }
  size_t bytes() const;

  // Verifies the invariants; prints the first that fails and returns false. Only in builds with
  // MILLRACE_CHECK.
  bool Check() const;

 private:
  static constexpr size_t kStaleMin = 4096;
  // So many tenants (of a level) and levels are remembered though they have nothing.
  static constexpr uint32_t kIdleGroupsKept = 64;
  static constexpr size_t kIdleLevelsKept = 64;

  struct Mark {
    uint32_t flow;
    uint32_t q;
  };

  // A FIFO of marks in one vector, whose used-up front is cut off now and then.
  struct Marks {
    std::vector<Mark> items;
    size_t begin = 0;
  };

  struct Type {
    uint32_t limit;
    uint32_t running = 0;
    double credits = std::numeric_limits<double>::infinity();
    size_t live = 0;
    size_t stopped = 0;  // of these
    size_t entries = 0;
    uint32_t active_at = kNone;  // place in active_types_
    IdHeap by_key;               // lanes with entries, highest K first
    IdHeap by_priority;          // the same, highest priority first
  };

  struct Level {
    int16_t priority = 0;
    bool used = false;
    double virtual_time = 0;
    double pass_max = 0;
    uint32_t active = 0;  // groups with entries
    uint32_t idle = 0;    // groups without
    uint32_t idle_first = kNone;
    uint32_t idle_last = kNone;
  };

  struct Group {
    uint32_t level = kNone;
    uint32_t tenant = 0;
    double pass = 0;
    uint32_t active = 0;  // flows with entries
    uint32_t flows = kNone;
    uint32_t previous = kNone;  // in the level's list of idle groups
    uint32_t next = kNone;
  };

  struct Lane {
    uint32_t type = kNone;
    uint32_t level = 0;
    uint32_t flow_count = 0;
    uint32_t key_at = 0;  // places in the type's heaps
    uint32_t priority_at = 0;
    int16_t priority = 0;
    uint32_t oldest_q = 0;
    IdHeap flows;
    Marks arrivals;
  };

  struct Flow {
    uint32_t lane = kNone;
    uint32_t group = 0;
    uint32_t next_of_group = kNone;
    uint32_t at = 0;  // place in the lane's heap
    double key = 0;   // the group's pass when last looked at
    uint32_t head_stamp = 0;
    uint32_t head_q = 0;
    uint32_t last_q = 0;
    uint32_t count = 0;
    uint32_t live = 0;  // entries that are not stale
    bool is_stopped = false;
    ChunkRef head = kNoChunk;
    ChunkRef tail = kNoChunk;
  };

  static bool IsBefore(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }
  static bool IsShut(const Type& type) { return type.running >= type.limit || type.credits < 1; }
  static uint64_t StopOf(uint32_t type, uint32_t tenant) { return uint64_t{type} << 32 | tenant; }
  bool IsStopped(uint32_t type, uint32_t tenant) const {
    return stops_.count(StopOf(kNone, tenant)) != 0 || stops_.count(StopOf(type, tenant)) != 0;
  }
  int64_t KeyOf(const Lane& lane) const { return int64_t{8} * lane.priority - lane.oldest_q; }
  // How far being served moves a tenant's pass.
  double StrideOf(uint32_t tenant) const { return tenant < strides_.size() ? strides_[tenant] : 1; }

  // The orders of the heaps, and where they note places.
  auto FlowOrder() const {
    return [this](uint32_t a, uint32_t b) {
      return flows_[a].key != flows_[b].key ? flows_[a].key < flows_[b].key
                                            : IsBefore(flows_[a].head_stamp, flows_[b].head_stamp);
    };
  }
  auto FlowMoved() {
    return [this](uint32_t id, uint32_t at) { flows_[id].at = at; };
  }
  auto KeyOrder() const {
    return [this](uint32_t a, uint32_t b) {
      const int64_t key_a = KeyOf(lanes_[a]);
      const int64_t key_b = KeyOf(lanes_[b]);
      return key_a != key_b ? key_a > key_b : lanes_[a].priority > lanes_[b].priority;
    };
  }
  auto KeyMoved() {
    return [this](uint32_t id, uint32_t at) { lanes_[id].key_at = at; };
  }
  auto PriorityOrder() const {
    return [this](uint32_t a, uint32_t b) { return lanes_[a].priority > lanes_[b].priority; };
  }
  auto PriorityMoved() {
    return [this](uint32_t id, uint32_t at) { lanes_[id].priority_at = at; };
  }

  uint32_t FlowFor(uint32_t type, int16_t priority, uint32_t tenant);
  uint32_t LevelFor(int16_t priority);
  uint32_t GroupFor(uint32_t level, uint32_t tenant);
  uint32_t LaneFor(uint32_t type, uint32_t level);

  uint32_t ChooseFlow();
  ChunkRef NewChunk(unsigned size_class);
  void Append(Flow* flow, const Entry& entry);
  void Activate(uint32_t flow);
  void Deactivate(uint32_t flow);
  void EnterLane(uint32_t flow);
  void LeaveLane(uint32_t flow);
  void SetStopped(uint32_t type, uint32_t tenant, bool is_stopped);
  void StopFlow(uint32_t flow);
  void StartFlow(uint32_t flow);
  void MarkArrivals(uint32_t flow);
  void PopHead(uint32_t flow);
  void ReadHead(Flow* flow) const;
  bool RefreshOldest(Lane* lane);
  void LaneChanged(uint32_t lane);
  void ActivateLane(uint32_t lane);
  void DeactivateLane(uint32_t lane);
  uint32_t BestFlow(uint32_t lane);

  void GroupIdle(uint32_t group);
  void UnlinkIdle(uint32_t group);
  void Purge(uint32_t level);
  void DestroyGroup(uint32_t group);

  const double quantum_ms_;
  std::vector<Type> types_;
  std::vector<uint32_t> active_types_;  // with lanes in their heaps
  std::unordered_set<uint64_t> stops_;  // StopOf
  std::vector<double> strides_;         // by tenant: 1 / weight; 1 for those beyond
  std::vector<Level> levels_;
  std::vector<Group> groups_;
  std::vector<Lane> lanes_;
  std::vector<Flow> flows_;
  std::vector<uint32_t> unused_levels_, unused_groups_, unused_lanes_, unused_flows_;
  HashIndex level_index_, group_index_, lane_index_, flow_index_;
  ChunkArena arena_;
  size_t live_ = 0;
  size_t entries_ = 0;
  uint32_t stamp_ = 0;
  uint32_t now_q_ = 0;
  uint32_t kept_classes_ = 0;   // a bit for each size class of which a chunk is kept
  uint32_t last_flow_ = kNone;  // of the last Push: the next one mostly goes there as well
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_READY_QUEUE_H_

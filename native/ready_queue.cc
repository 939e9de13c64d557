#include "ready_queue.h"

#include <algorithm>
#include <cstdio>

#include "timing_wheel.h"

namespace millrace {
namespace {

uint32_t HashPair(uint32_t a, uint32_t b, uint64_t seed) {
  return static_cast<uint32_t>(MixBits(seed ^ (uint64_t{a} << 32 | b)));
}

template <typename T>
uint32_t NewIn(std::vector<T>* all, std::vector<uint32_t>* unused) {
  if (unused->empty()) {
    all->emplace_back();
    return static_cast<uint32_t>(all->size() - 1);
  }
  const uint32_t id = unused->back();
  unused->pop_back();
  return id;
}

}  // namespace

ReadyQueue::ReadyQueue(double ageing_ms) : quantum_ms_(ageing_ms / 8) {}

uint32_t ReadyQueue::AddType(uint32_t limit) {
  types_.emplace_back();
  types_.back().limit = limit;
  return static_cast<uint32_t>(types_.size() - 1);
}

void ReadyQueue::SetWeight(uint32_t tenant, double weight) {
  if (tenant >= strides_.size()) strides_.resize(tenant + 1, 1);
  strides_[tenant] = 1 / weight;
}

uint32_t ReadyQueue::Push(uint32_t type, int16_t priority, uint32_t tenant, uint32_t token,
                          double now_ms) {
  if (quantum_ms_ > 0) {
    const double q = now_ms / quantum_ms_;
    // Beyond 2^32 eighths everything is of one age.
    const uint32_t whole = q >= 4294967295.0 ? ~0u : q > 0 ? static_cast<uint32_t>(q) : 0;
    if (whole > now_q_) now_q_ = whole;
  }
  if (++stamp_ == 0) stamp_ = 1;
  const uint32_t id = FlowFor(type, priority, tenant);
  Flow& flow = flows_[id];
  const bool was_empty = flow.count == 0;
  Append(&flow, {token, stamp_, now_q_});
  Lane& lane = lanes_[flow.lane];
  if ((was_empty || flow.last_q != now_q_) && !flow.is_stopped) {
    lane.arrivals.items.push_back({id, now_q_});
  }
  flow.last_q = now_q_;
  flow.live++;
  Type& t = types_[type];
  t.entries++;
  t.live++;
  t.stopped += flow.is_stopped;
  entries_++;
  live_++;
  if (was_empty) Activate(id);
  return stamp_;
}

bool ReadyQueue::Peek(Head* head) {
  const uint32_t chosen = ChooseFlow();
  if (chosen == kNone) return false;
  const Flow& flow = flows_[chosen];
  const Chunk* chunk = arena_.At(flow.head);
  head->token = chunk->entries[chunk->begin].index;
  head->stamp = flow.head_stamp;
  head->type = lanes_[flow.lane].type;
  head->flow = chosen;
  return true;
}

uint32_t ReadyQueue::ChooseFlow() {
  if (active_types_.size() == 1) {
    // Mostly one flow is all there is.
    const Type& t = types_[active_types_[0]];
    if (IsShut(t)) return kNone;
    const Lane& lane = lanes_[t.by_key.top()];
    if (t.by_key.size() == 1 && lane.flows.size() == 1) return lane.flows.top();
  }
  uint32_t best = kNone;
  int priority_max = INT32_MIN;
  int64_t best_key = 0;
  for (uint32_t type : active_types_) {
    const Type& t = types_[type];
    if (IsShut(t)) continue;
    const uint32_t lane = t.by_key.top();
    const int64_t key = KeyOf(lanes_[lane]);
    if (best == kNone || key > best_key ||
        (key == best_key && lanes_[lane].priority > lanes_[best].priority)) {
      best = lane;
      best_key = key;
    }
    priority_max = std::max<int>(priority_max, lanes_[t.by_priority.top()].priority);
  }
  if (best == kNone) return kNone;
  if (lanes_[best].priority < priority_max) {
    const Marks& marks = lanes_[best].arrivals;
    return marks.items[marks.begin].flow;
  }
  uint32_t chosen = kNone;
  for (uint32_t type : active_types_) {
    const Type& t = types_[type];
    if (IsShut(t)) continue;
    const uint32_t lane = t.by_priority.top();
    if (lanes_[lane].priority != priority_max) continue;
    const uint32_t flow = BestFlow(lane);
    if (chosen == kNone || FlowOrder()(flow, chosen)) chosen = flow;
  }
  return chosen;
}

uint32_t ReadyQueue::Ahead(const Head& head, unsigned distance) const {
  const Chunk* chunk = arena_.At(flows_[head.flow].head);
  unsigned at = chunk->begin + distance;
  if (at >= chunk->end) {
    if (chunk->next == kNoChunk) return kNone;
    at -= chunk->end;
    chunk = arena_.At(chunk->next);
    at += chunk->begin;
    if (at >= chunk->end) return kNone;
  }
  return chunk->entries[at].index;
}

void ReadyQueue::Take(const Head& head) {
  Type& type = types_[head.type];
  type.running++;
  type.credits -= 1;
  type.live--;
  live_--;
  flows_[head.flow].live--;
  Group& group = groups_[flows_[head.flow].group];
  const uint32_t level_id = group.level;
  Level& level = levels_[level_id];
  if (group.pass > level.virtual_time) level.virtual_time = group.pass;
  group.pass += StrideOf(group.tenant);
  if (group.pass > level.pass_max) level.pass_max = group.pass;
  PopHead(head.flow);
  Purge(level_id);
}

void ReadyQueue::AddCredits(uint32_t type, double credits, double max) {
  types_[type].credits = std::min(max, types_[type].credits + credits);
}

void ReadyQueue::Forget(uint32_t type, int16_t priority, uint32_t tenant) {
  Flow& flow = flows_[FlowFor(type, priority, tenant)];
  flow.live--;
  types_[type].live--;
  types_[type].stopped -= flow.is_stopped;
  live_--;
}

void ReadyQueue::SetStopped(uint32_t type, uint32_t tenant, bool is_stopped) {
  const uint64_t stop = StopOf(type, tenant);
  if ((stops_.count(stop) != 0) == is_stopped) return;
  if (is_stopped) {
    stops_.insert(stop);
  } else {
    stops_.erase(stop);
  }
  for (const Group& group : groups_) {
    if (group.level == kNone || group.tenant != tenant) continue;
    for (uint32_t id = group.flows; id != kNone; id = flows_[id].next_of_group) {
      const bool shall_stop = IsStopped(lanes_[flows_[id].lane].type, tenant);
      if (shall_stop == flows_[id].is_stopped) continue;
      if (shall_stop) {
        StopFlow(id);
      } else {
        StartFlow(id);
      }
    }
  }
}

void ReadyQueue::StopFlow(uint32_t id) {
  Flow& flow = flows_[id];
  if (flow.count > 0) LeaveLane(id);
  flow.is_stopped = true;
  types_[lanes_[flow.lane].type].stopped += flow.live;
  // A mark of it must not be taken for one of a running flow, also if that lane goes on.
  if (flow.count > 0 && !lanes_[flow.lane].flows.empty()) LaneChanged(flow.lane);
}

void ReadyQueue::StartFlow(uint32_t id) {
  Flow& flow = flows_[id];
  flow.is_stopped = false;
  types_[lanes_[flow.lane].type].stopped -= flow.live;
  if (flow.count == 0) return;
  // Who was stopped saves up no claim.
  Group& group = groups_[flow.group];
  const Level& level = levels_[group.level];
  if (group.pass < level.virtual_time) group.pass = level.virtual_time;
  MarkArrivals(id);
  EnterLane(id);
  LaneChanged(flow.lane);
}

// Marks for everything that a flow has, among those of its lane: they are in order of age.
void ReadyQueue::MarkArrivals(uint32_t id) {
  const Flow& flow = flows_[id];
  Marks& marks = lanes_[flow.lane].arrivals;
  std::vector<Mark> all;
  for (size_t i = marks.begin; i < marks.items.size(); i++) {
    if (marks.items[i].flow != id) all.push_back(marks.items[i]);
  }
  const size_t others = all.size();
  for (ChunkRef ref = flow.head; ref != kNoChunk; ref = arena_.At(ref)->next) {
    const Chunk* chunk = arena_.At(ref);
    for (unsigned i = chunk->begin; i < chunk->end; i++) {
      const uint32_t q = chunk->entries[i].offset;
      if (all.size() == others || all.back().q != q) all.push_back({id, q});
    }
  }
  std::inplace_merge(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(others), all.end(),
                     [](const Mark& a, const Mark& b) { return a.q < b.q; });
  marks.items.swap(all);
  marks.begin = 0;
}

void ReadyQueue::Skip(const Head& head) { PopHead(head.flow); }

size_t ReadyQueue::Takeable(size_t max) const {
  size_t count = 0;
  for (uint32_t type : active_types_) {
    const Type& t = types_[type];
    if (IsShut(t)) continue;
    size_t of_type = std::min<size_t>(t.live - t.stopped, t.limit - t.running);
    if (t.credits < static_cast<double>(of_type)) of_type = static_cast<size_t>(t.credits);
    count += of_type;
    if (count >= max) return max;
  }
  return count;
}

void ReadyQueue::Sweep(bool (*is_current)(void* context, uint32_t token, uint32_t stamp),
                       void* context) {
  for (uint32_t id = 0; id < flows_.size(); id++) {
    if (flows_[id].lane == kNone || flows_[id].count == 0) continue;
    ChunkRef from = flows_[id].head;
    uint32_t kept = 0;
    const uint32_t before = flows_[id].count;
    flows_[id].head = kNoChunk;
    flows_[id].tail = kNoChunk;
    flows_[id].count = 0;
    while (from != kNoChunk) {
      const Chunk* chunk = arena_.At(from);
      for (unsigned i = chunk->begin; i < chunk->end; i++) {
        const Entry entry = chunk->entries[i];
        if (!is_current(context, entry.index, entry.stamp)) continue;
        Append(&flows_[id], entry);
        kept++;
      }
      const ChunkRef next = chunk->next;
      arena_.Free(from);
      from = next;
    }
    const uint32_t dropped = before - kept;
    if (dropped == 0) {
      ReadHead(&flows_[id]);
      continue;
    }
    const uint32_t lane = flows_[id].lane;
    Type& type = types_[lanes_[lane].type];
    entries_ -= dropped;
    type.entries -= dropped;
    if (kept == 0) {
      Deactivate(id);
    } else if (flows_[id].is_stopped) {
      ReadHead(&flows_[id]);
    } else {
      ReadHead(&flows_[id]);
      LaneChanged(lane);
      lanes_[lane].flows.Update(flows_[id].at, FlowOrder(), FlowMoved());
    }
  }
}

size_t ReadyQueue::bytes() const {
  size_t bytes = arena_.bytes() + level_index_.bytes() + group_index_.bytes() +
                 lane_index_.bytes() + flow_index_.bytes() + types_.capacity() * sizeof(Type) +
                 levels_.capacity() * sizeof(Level) + groups_.capacity() * sizeof(Group) +
                 lanes_.capacity() * sizeof(Lane) + flows_.capacity() * sizeof(Flow) +
                 strides_.capacity() * sizeof(double);
  for (const Lane& lane : lanes_) {
    bytes += lane.flows.bytes() + lane.arrivals.items.capacity() * sizeof(Mark);
  }
  return bytes;
}

// ---- Finding and making the parts
// -----------------------------------------------------------------------------

uint32_t ReadyQueue::FlowFor(uint32_t type, int16_t priority, uint32_t tenant) {
  const auto is_it = [&](uint32_t id) {
    const Flow& flow = flows_[id];
    const Lane& lane = lanes_[flow.lane];
    return lane.type == type && lane.priority == priority && groups_[flow.group].tenant == tenant;
  };
  if (last_flow_ != kNone && is_it(last_flow_)) return last_flow_;
  const uint32_t hash =
      HashPair(HashPair(type, tenant, 0), static_cast<uint16_t>(priority), flow_index_.seed());
  uint32_t id = flow_index_.Find(hash, is_it);
  if (id == HashIndex::kNone) {
    const uint32_t level = LevelFor(priority);
    const uint32_t group = GroupFor(level, tenant);
    const uint32_t lane = LaneFor(type, level);
    id = NewIn(&flows_, &unused_flows_);
    Flow& flow = flows_[id];
    flow = Flow();
    flow.lane = lane;
    flow.group = group;
    flow.is_stopped = !stops_.empty() && IsStopped(type, tenant);
    flow.next_of_group = groups_[group].flows;
    groups_[group].flows = id;
    lanes_[lane].flow_count++;
    flow_index_.Insert(hash, id);
  }
  last_flow_ = id;
  return id;
}

uint32_t ReadyQueue::LevelFor(int16_t priority) {
  const uint32_t hash = HashPair(static_cast<uint16_t>(priority), 0, level_index_.seed());
  uint32_t id =
      level_index_.Find(hash, [&](uint32_t known) { return levels_[known].priority == priority; });
  if (id != HashIndex::kNone) return id;
  id = NewIn(&levels_, &unused_levels_);
  levels_[id] = Level();
  levels_[id].priority = priority;
  levels_[id].used = true;
  level_index_.Insert(hash, id);
  return id;
}

uint32_t ReadyQueue::GroupFor(uint32_t level, uint32_t tenant) {
  const uint32_t hash = HashPair(level, tenant, group_index_.seed());
  uint32_t id = group_index_.Find(hash, [&](uint32_t known) {
    return groups_[known].level == level && groups_[known].tenant == tenant;
  });
  if (id != HashIndex::kNone) return id;
  id = NewIn(&groups_, &unused_groups_);
  groups_[id] = Group();
  groups_[id].level = level;
  groups_[id].tenant = tenant;
  group_index_.Insert(hash, id);
  GroupIdle(id);
  return id;
}

uint32_t ReadyQueue::LaneFor(uint32_t type, uint32_t level) {
  const uint32_t hash = HashPair(type, level, lane_index_.seed());
  uint32_t id = lane_index_.Find(hash, [&](uint32_t known) {
    return lanes_[known].type == type && lanes_[known].level == level;
  });
  if (id != HashIndex::kNone) return id;
  id = NewIn(&lanes_, &unused_lanes_);
  Lane& lane = lanes_[id];
  lane = Lane();
  lane.type = type;
  lane.level = level;
  lane.priority = levels_[level].priority;
  lane_index_.Insert(hash, id);
  return id;
}

// ---- Entries
// ----------------------------------------------------------------------------------------------------

void ReadyQueue::Append(Flow* flow, const Entry& entry) {
  Chunk* tail = flow->tail == kNoChunk ? nullptr : arena_.At(flow->tail);
  if (tail == nullptr || tail->end == tail->capacity) {
    const ChunkRef ref = NewChunk(tail == nullptr ? 0u : tail->size_class + 2u);
    if (tail == nullptr) {
      flow->head = ref;
    } else {
      tail->next = ref;
    }
    flow->tail = ref;
    tail = arena_.At(ref);
  }
  tail->entries[tail->end++] = entry;
  flow->count++;
}

// A chunk of this size class or the largest. Of each class that is used one chunk is kept, so that
// a queue that runs empty all the time does not give a page back to the system and fetch it again
// each time: that cost 40 ns per task.
ChunkRef ReadyQueue::NewChunk(unsigned size_class) {
  size_class = std::min(size_class, ChunkArena::kSizeClasses - 1);
  if ((kept_classes_ >> size_class & 1) == 0) {
    kept_classes_ |= 1u << size_class;
    arena_.Allocate(size_class);
  }
  return arena_.Allocate(size_class);
}

void ReadyQueue::ReadHead(Flow* flow) const {
  const Chunk* chunk = arena_.At(flow->head);
  flow->head_stamp = chunk->entries[chunk->begin].stamp;
  flow->head_q = chunk->entries[chunk->begin].offset;
}

void ReadyQueue::PopHead(uint32_t id) {
  Flow& flow = flows_[id];
  Chunk* chunk = arena_.At(flow.head);
  if (++chunk->begin == chunk->end) {
    const ChunkRef next = chunk->next;
    arena_.Free(flow.head);
    flow.head = next;
    if (next == kNoChunk) flow.tail = kNoChunk;
  }
  flow.count--;
  entries_--;
  types_[lanes_[flow.lane].type].entries--;
  if (flow.count == 0) return Deactivate(id);
  ReadHead(&flow);
  Lane& lane = lanes_[flow.lane];
  flow.key = groups_[flow.group].pass;
  if (lane.flows.size() > 1) {
    lane.flows.Update(flow.at, FlowOrder(), FlowMoved());
  }
  LaneChanged(flow.lane);
}

// ---- Flows, lanes and groups with and without entries
// -----------------------------------------------------------

void ReadyQueue::Activate(uint32_t id) {
  Flow& flow = flows_[id];
  Group& group = groups_[flow.group];
  if (group.active++ == 0) {
    UnlinkIdle(flow.group);
    Level& level = levels_[group.level];
    level.active++;
    if (group.pass < level.virtual_time) group.pass = level.virtual_time;
  }
  ReadHead(&flow);
  if (!flow.is_stopped) EnterLane(id);
}

void ReadyQueue::EnterLane(uint32_t id) {
  Flow& flow = flows_[id];
  flow.key = groups_[flow.group].pass;
  Lane& lane = lanes_[flow.lane];
  const bool was_empty = lane.flows.empty();
  lane.flows.Push(id, FlowOrder(), FlowMoved());
  // Another flow's entries are as old or older, so only an empty lane changes its place.
  if (was_empty) ActivateLane(flow.lane);
}

// REQUIRES: the flow has just lost its last entry.
void ReadyQueue::Deactivate(uint32_t id) {
  const uint32_t lane = flows_[id].lane;
  const uint32_t group = flows_[id].group;
  if (!flows_[id].is_stopped) {
    LeaveLane(id);
    if (!lanes_[lane].flows.empty()) LaneChanged(lane);
  }
  if (--groups_[group].active == 0) {
    Level& level = levels_[groups_[group].level];
    // Who was served last in a busy time has no claim on the next.
    if (--level.active == 0) level.virtual_time = level.pass_max;
    GroupIdle(group);
  }
}

void ReadyQueue::LeaveLane(uint32_t id) {
  const Flow& flow = flows_[id];
  Lane& lane = lanes_[flow.lane];
  lane.flows.Remove(flow.at, FlowOrder(), FlowMoved());
  if (lane.flows.empty()) DeactivateLane(flow.lane);
}

// Finds the oldest entry's eighth. False if it is as it was.
bool ReadyQueue::RefreshOldest(Lane* lane) {
  Marks& marks = lane->arrivals;
  for (;; marks.begin++) {
    const Mark& mark = marks.items[marks.begin];
    const Flow& flow = flows_[mark.flow];
    const bool has_entries = flow.count > 0 && !flow.is_stopped;
    if (has_entries && flow.head_q == mark.q && lanes_.data() + flow.lane == lane) break;
  }
  if (marks.begin > 64 && marks.begin * 2 > marks.items.size()) {
    marks.items.erase(marks.items.begin(),
                      marks.items.begin() + static_cast<std::ptrdiff_t>(marks.begin));
    marks.begin = 0;
  }
  const uint32_t q = marks.items[marks.begin].q;
  if (q == lane->oldest_q) return false;
  lane->oldest_q = q;
  return true;
}

// An entry has left a lane that has others.
void ReadyQueue::LaneChanged(uint32_t id) {
  Lane& lane = lanes_[id];
  if (!RefreshOldest(&lane)) return;
  types_[lane.type].by_key.Update(lane.key_at, KeyOrder(), KeyMoved());
}

void ReadyQueue::ActivateLane(uint32_t id) {
  Lane& lane = lanes_[id];
  RefreshOldest(&lane);
  Type& type = types_[lane.type];
  if (type.by_key.empty()) {
    type.active_at = static_cast<uint32_t>(active_types_.size());
    active_types_.push_back(lane.type);
  }
  type.by_key.Push(id, KeyOrder(), KeyMoved());
  type.by_priority.Push(id, PriorityOrder(), PriorityMoved());
}

void ReadyQueue::DeactivateLane(uint32_t id) {
  Lane& lane = lanes_[id];
  lane.arrivals.items.clear();
  lane.arrivals.begin = 0;
  Type& type = types_[lane.type];
  type.by_key.Remove(lane.key_at, KeyOrder(), KeyMoved());
  type.by_priority.Remove(lane.priority_at, PriorityOrder(), PriorityMoved());
  if (!type.by_key.empty()) return;
  const uint32_t last = active_types_.back();
  active_types_[type.active_at] = last;
  types_[last].active_at = type.active_at;
  active_types_.pop_back();
  type.active_at = kNone;
}

// The flow of a lane whose tenant has the lowest pass. Passes that rose through another type are
// looked up now.
uint32_t ReadyQueue::BestFlow(uint32_t id) {
  Lane& lane = lanes_[id];
  for (;;) {
    const uint32_t top = lane.flows.top();
    Flow& flow = flows_[top];
    const double pass = groups_[flow.group].pass;
    if (flow.key == pass) return top;
    flow.key = pass;
    lane.flows.Update(0, FlowOrder(), FlowMoved());
  }
}

void ReadyQueue::GroupIdle(uint32_t id) {
  Group& group = groups_[id];
  Level& level = levels_[group.level];
  group.previous = level.idle_last;
  group.next = kNone;
  if (level.idle_last == kNone) {
    level.idle_first = id;
  } else {
    groups_[level.idle_last].next = id;
  }
  level.idle_last = id;
  level.idle++;
}

void ReadyQueue::UnlinkIdle(uint32_t id) {
  const Group& group = groups_[id];
  Level& level = levels_[group.level];
  if (group.previous == kNone) {
    level.idle_first = group.next;
  } else {
    groups_[group.previous].next = group.next;
  }
  if (group.next == kNone) {
    level.idle_last = group.previous;
  } else {
    groups_[group.next].previous = group.previous;
  }
  level.idle--;
}

// Forgets tenants that have nothing and whose pass says nothing any more; the longest idle first,
// two at a time.
void ReadyQueue::Purge(uint32_t id) {
  const bool is_spare = levels_[id].active == 0 && level_index_.size() > kIdleLevelsKept;
  const uint32_t kept = is_spare ? 0 : kIdleGroupsKept;
  for (int i = 0; (i < 2 || is_spare) && levels_[id].idle > kept; i++) {
    const uint32_t group = levels_[id].idle_first;
    if (groups_[group].pass > levels_[id].virtual_time) {
      // Its turn to be forgotten comes when time has passed it by; others may be ready to go.
      UnlinkIdle(group);
      GroupIdle(group);
      continue;
    }
    DestroyGroup(group);
  }
  Level& level = levels_[id];
  if (!is_spare || level.idle > 0) return;
  level_index_.Erase(HashPair(static_cast<uint16_t>(level.priority), 0, level_index_.seed()), id);
  level.used = false;
  unused_levels_.push_back(id);
}

void ReadyQueue::DestroyGroup(uint32_t id) {
  UnlinkIdle(id);
  Group& group = groups_[id];
  for (uint32_t flow_id = group.flows; flow_id != kNone;) {
    Flow& flow = flows_[flow_id];
    const uint32_t next = flow.next_of_group;
    Lane& lane = lanes_[flow.lane];
    flow_index_.Erase(HashPair(HashPair(lane.type, group.tenant, 0),
                               static_cast<uint16_t>(lane.priority), flow_index_.seed()),
                      flow_id);
    if (--lane.flow_count == 0) {
      lane_index_.Erase(HashPair(lane.type, lane.level, lane_index_.seed()), flow.lane);
      lane.type = kNone;
      unused_lanes_.push_back(flow.lane);
    }
    flow.lane = kNone;
    unused_flows_.push_back(flow_id);
    if (last_flow_ == flow_id) last_flow_ = kNone;
    flow_id = next;
  }
  group_index_.Erase(HashPair(group.level, group.tenant, group_index_.seed()), id);
  group.level = kNone;
  unused_groups_.push_back(id);
}

// ---- The invariants
// ---------------------------------------------------------------------------------------------

#if defined(MILLRACE_CHECK)

namespace {
bool Fails(const char* what) {
  std::fprintf(stderr, "ready queue: %s\n", what);
  return false;
}
}  // namespace

bool ReadyQueue::Check() const {
  std::vector<size_t> entries(types_.size(), 0);
  std::vector<size_t> stopped(types_.size(), 0);
  std::vector<uint32_t> active(groups_.size(), 0);
  std::vector<uint32_t> in_lane(lanes_.size(), 0);
  size_t all = 0;
  for (uint32_t id = 0; id < flows_.size(); id++) {
    const Flow& flow = flows_[id];
    if (flow.lane == kNone) continue;
    const Lane& lane = lanes_[flow.lane];
    if (lane.type == kNone) return Fails("a flow is in a lane that is not used");
    if (groups_[flow.group].level != lane.level) return Fails("flow and group differ in level");
    uint32_t count = 0;
    uint32_t last_q = 0;
    ChunkRef last = kNoChunk;
    for (ChunkRef ref = flow.head; ref != kNoChunk; ref = arena_.At(ref)->next) {
      const Chunk* chunk = arena_.At(ref);
      for (unsigned i = chunk->begin; i < chunk->end; i++, count++) {
        if (chunk->entries[i].offset < last_q) return Fails("a flow is out of order");
        last_q = chunk->entries[i].offset;
      }
      last = ref;
    }
    if (count != flow.count || last != flow.tail) return Fails("a flow's count is wrong");
    if (flow.live > count) return Fails("more is live of a flow than it has");
    if (flow.is_stopped != IsStopped(lane.type, groups_[flow.group].tenant)) {
      return Fails("a flow is wrongly stopped");
    }
    if (flow.is_stopped) stopped[lane.type] += flow.live;
    all += count;
    if (count == 0) continue;
    entries[lane.type] += count;
    active[flow.group]++;
    const Chunk* head = arena_.At(flow.head);
    if (head->entries[head->begin].stamp != flow.head_stamp) return Fails("a head is not known");
    if (flow.is_stopped) continue;
    in_lane[flow.lane]++;
    if (flow.at >= lane.flows.size() || lane.flows.at(flow.at) != id) {
      return Fails("a flow with entries is not in its lane's heap");
    }
    if (flow.key > groups_[flow.group].pass) return Fails("a key is later than the pass");
    if (flow.head_q < lane.oldest_q) return Fails("a lane's oldest entry is not known");
  }
  if (all != entries_ || live_ > entries_) return Fails("the number of entries is wrong");
  size_t live = 0;
  for (uint32_t type = 0; type < types_.size(); type++) {
    const Type& t = types_[type];
    live += t.live;
    if (t.entries != entries[type] || t.live > t.entries) return Fails("a type's count is wrong");
    if (t.stopped != stopped[type]) return Fails("a type's count of what is stopped is wrong");
    if ((t.active_at != kNone) == t.by_key.empty()) return Fails("a type is wrongly active");
  }
  if (live != live_) return Fails("the types' counts do not add up");
  for (uint32_t id = 0; id < lanes_.size(); id++) {
    const Lane& lane = lanes_[id];
    if (lane.type == kNone) continue;
    if (lane.flows.size() != in_lane[id]) return Fails("a lane's heap holds an empty flow");
    const Type& type = types_[lane.type];
    const bool listed = lane.key_at < type.by_key.size() && type.by_key.at(lane.key_at) == id &&
                        lane.priority_at < type.by_priority.size() &&
                        type.by_priority.at(lane.priority_at) == id;
    if (in_lane[id] != 0 && !listed) return Fails("a lane with entries is not in its type's heaps");
  }
  for (uint32_t id = 0; id < groups_.size(); id++) {
    if (groups_[id].level != kNone && groups_[id].active != active[id]) {
      return Fails("a group's count is wrong");
    }
  }
  return true;
}

#else

bool ReadyQueue::Check() const { return true; }

#endif

}  // namespace millrace

// TaskTable: the tasks that a node holds, outside the JavaScript heap, from the segment they came
// in to the commit that files their end. JavaScript hands in and gets whole frames; single tasks
// are handled here.
//
//   ingest(frame of tasks) -> waiting for a time -> ready -> claimed -> launched (frame of a batch)
//                                   ^                                        |
//                                   `--- retry --- policy in JavaScript <--- results (frame) --->
//                                   ended -> filed
//
// A segment is one block of memory (task_slab.h):
//
//   | Segment | Task x count | interned ids of its strings | name | the frame, as it came |
//
// so a task's record, its payload and its metadata lie near one another, copied once, and all of it
// is freed in one go. A Task is 64 bytes, one cache line, and has what timing, ordering and packing
// need; the rest is read from the record in the frame when it is needed, which is rare.
//
// Names. Inside, a task is a number of 32 bits: page << 8 | place in the page. A segment owns a
// page for each 256 of its tasks. Outside, a task is a handle: generation << 32 | number, 53 bits,
// so that a handle of a task that is gone is refused and never means another one; pages whose
// generations are used up are retired. A segment's handle is that of its first task's place, a
// batch's is built in the same way.
//
// States change by compare-and-set (Move). What is kept here is always at or ahead of the store: a
// change makes the segment dirty, a cut writes dirty segments into a commit, and when that commit
// is done (Settle) or certainly not (Revert) the cut says which tasks have ended for good, or puts
// everything back.
//
// A pending task is in exactly one of these: the wheel (not due), the ready queue of its place,
// with its type waiting for a handler that this node does not have, listed as expired, or in a
// segment that is held (Hold, or not resumed after recovery). With a time to live it is in the
// wheel also while it is ready.
//
// A segment can go to another node while some of its tasks run here. It is released then: what is
// in batches stays until it has reported, everything else is forgotten, and nothing of it is
// written any more, for it is the other node's. In a released segment, whatever is not RUNNING is
// forgotten. The other way round, a segment that is taken over may have tasks that run elsewhere:
// RUNNING, in no batch, under an executor that is not this node's.
//
// Frames are hostile: they are copied first, checked completely, and then used; a bad one changes
// nothing.
//
// Invariants: Check() verifies them in debug and sanitizer builds.
// Thread safety: none; no state outside the object. Time comes in as an argument: `wall` in epoch
// milliseconds for what is stored, `mono` for waiting. Never early: due times are rounded up to the
// wheel's millisecond.
#ifndef MILLRACE_NATIVE_TASK_TABLE_H_
#define MILLRACE_NATIVE_TASK_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "frame.h"
#include "hash_index.h"
#include "ready_queue.h"
#include "string_interner.h"
#include "task_slab.h"
#include "task_timers.h"

namespace millrace {

using Handle = uint64_t;  // 0: none

struct Now {
  double wall_ms;
  double mono_ms;
};

// What is counted as it happens, in memory that JavaScript reads (as float64, so that all are exact
// there).
struct TaskCounters {
  double segments;
  double tasks;       // all that are held
  double open;        // whose end is not durable
  double open_bytes;  // payload bytes of these
  double states[6];   // by TaskState
  double delayed;     // pending, waiting for a time
  double ready[2];    // by place
  double unhandled;   // ready, without a handler here
  double running;     // in batches
  double dirty;       // segments that a commit has to write
  double batches;
  double expired;  // listed for TakeExpired
};

class TaskTable {
 public:
  static constexpr uint32_t kPlaces = 2;
  static constexpr uint32_t kNone = ~0u;

  // The counters must outlive the table's use. `executor` is this node's incarnation.
  TaskTable(TaskCounters* counters, double start_mono_ms, double ageing_ms, const Text& executor);
  ~TaskTable();
  TaskTable(const TaskTable&) = delete;
  TaskTable& operator=(const TaskTable&) = delete;

  // ---- Types and tenants

  struct TypeToDefine {
    uint32_t place;
    uint32_t limit;        // how many at once, or ReadyQueue::kNoLimit
    bool is_just_in_time;  // never claimed ahead of a place
    uint32_t per_key = 1;  // how many of those at once that share a key
  };
  // A type that this node can run. Tasks of it that wait already become ready. Defining it again
  // changes all but the place. Returns its id.
  uint32_t DefineType(const Text& name, const TypeToDefine& type, const Now& now);
  void SetWeight(const Text& tenant, double weight);

  // ---- Limits on tenants and rates (task_limits.cc). Whatever waits for them is ready, and counted
  // so.

  // Nothing of a tenant is claimed, until it is started again.
  void StopTenant(const Text& tenant, bool is_stopped);
  // Each claim of a type costs a credit; below one, nothing of it is claimed. So many more, at most
  // `max` in all. A `max` that is infinite ends the limit.
  void AddCredits(uint32_t type, double credits, double max);
  // The same for each tenant by itself: of one type, or (kNone) of all. Who has not been seen, or
  // not for long, has `max`.
  // Returns how many have less than that.
  size_t AddTenantCredits(uint32_t type, double credits, double max);
  // What is left; infinite where there is no such limit.
  double Credits(uint32_t type) const;
  double TenantCredits(uint32_t type, const Text& tenant) const;
  // How many (tenant, type) and tenants have spent something that they have not got back.
  size_t spent_tenants() const { return tenant_credits_.size(); }

  // NaN: nothing of this type has run.
  double AverageRunMs(uint32_t type) const { return types_[type].average_run_ms; }
  uint32_t Running(uint32_t type) const;
  // Due tasks of a type that this node runs, those that run alone aside.
  size_t Ready(uint32_t type) const;
  const std::string* TypeName(uint32_t type) const;

  // ---- Segments

  struct Ingest {
    const uint8_t* frame;
    size_t length;
    Text ref;
    const double* due_mono_ms;  // per task, or null: worked out from the wall-clock times
    size_t due_count;
    bool hold;  // tasks wait for Resume
  };
  enum class IngestError : uint8_t { kNone, kFrame, kKnown, kFull, kDueCount };
  // Takes a frame of tasks. On an error nothing has changed.
  IngestError Add(const Ingest& segment, const Now& now, Handle* out);

  // Brings a segment up to date that is held since it came, once. False for a bad frame or one that
  // does not fit, and when something of the segment has changed here; nothing has changed then.
  bool ApplyOverlay(Handle segment, const uint8_t* frame, size_t length);
  struct Resumed {
    uint32_t open = 0;
    double open_bytes = 0;
  };
  // Starts a held segment: pending tasks wait or are ready, by the wall clock; what is RUNNING and
  // in no batch, because it ran or runs elsewhere, is listed in `lost`.
  Resumed Resume(Handle segment, const Now& now, std::vector<Handle>* lost);
  // Stops a segment until Resume: none of its tasks waits or is ready. What is in batches goes on.
  // False if there is no such segment, or it is released.
  bool Hold(Handle segment);
  // Moves when tasks are due that wait since a Retry of this table by so much, so that a Resume after
  // the wall clock jumped leaves them when they were on the monotonic one. REQUIRES: it is held.
  void ShiftWaits(Handle segment, double by_ms);

  struct Watched {
    uint32_t index;
    Handle task;
  };
  struct Released {
    uint32_t open = 0;  // whose end was not durable
    double open_bytes = 0;
    uint32_t running = 0;  // tasks that stay
    std::vector<Watched> watched;
  };
  // Another node owns the segment from now on: tasks in batches stay until Forget, the others are
  // forgotten. Cuts in flight may still be settled or reverted; what they filed of it is no concern
  // of theirs any more. False if there is no such segment, or it is released already.
  bool Release(Handle segment, Released* out);
  // Forgets a task of a released segment; the last one takes the segment along. False if the task
  // is in a batch, or of no such segment.
  bool Forget(Handle task);

  // Not of released segments.
  Handle Find(const Text& ref) const;
  // 0 if there is no such task.
  Handle TaskAt(Handle segment, uint32_t index) const;
  // False while tasks of it are in batches. Unfiled ends are forgotten.
  bool Drop(Handle segment);

  // ---- Time

  // Fires up to `budget` timers. Returns how many it did; if that is the budget, there may be more.
  size_t Advance(const Now& now, size_t budget);
  // When to call Advance next (mono); infinite if never. Spare memory that could go back counts.
  double NextDueMs();
  // Tasks that were not started within their time to live, still pending: each must be ended.
  size_t TakeExpired(Handle* out, size_t capacity);
  // Some of the tasks that turned ready without a handler, for a report; those beyond
  // `kUnhandledKept` are dropped.
  size_t TakeUnhandled(Handle* out, size_t capacity);

  // ---- Claiming and running

  // `alone`: of the tasks that run with nothing beside them; the limits of their types aside.
  size_t Takeable(uint32_t place, bool alone, size_t max) const {
    return ready_[QueueOf(place, alone)].Takeable(max);
  }

  // kNow: runs as soon as the claim is durable. kAhead: waits for a place first, so the claim ends
  // before a task of a type that is claimed just in time. kAlone: one task of those that run with
  // nothing beside them, which no other claim takes.
  enum class ClaimMode : uint8_t { kNow, kAhead, kAlone };
  struct ClaimLimits {
    uint32_t place;
    uint32_t tasks_max;
    uint32_t segments_max;  // that the cut has not touched yet
    double bytes_max;
    double work_ms_max;
    ClaimMode mode;
  };
  enum class ClaimEnd : uint8_t { kFull, kNothing, kSegments };
  struct Claimed {
    Handle batch = 0;  // 0: nothing was claimed
    uint32_t tasks = 0;
    uint32_t segments = 0;       // newly touched
    uint32_t segment_tasks = 0;  // tasks in these
    double bytes = 0;
    ClaimEnd end = ClaimEnd::kNothing;
  };
  // Takes ready tasks for one batch and marks them RUNNING, attempt + 1. The cut writes the
  // segments they are in.
  Claimed Claim(Handle cut, const ClaimLimits& limits, const Now& now);

  // The size of a batch's frame, which WriteBatch then writes. 0: there is no such batch, or it has
  // begun to report.
  size_t MeasureBatch(Handle batch);
  void WriteBatch(Handle batch, double token, uint8_t* out);

  // One result that JavaScript decides about, or that came too late.
  struct Verdict {
    Handle task;  // 0: the slot does not exist
    uint8_t outcome;
    uint16_t attempt;
    uint32_t slot;
    uint32_t type;
    uint32_t bytes_at;  // in the results frame
    uint32_t bytes_length;
  };
  static constexpr uint8_t kStale = 255;
  // Takes a frame of results: what completed ends, what did not start is ready again, the rest is
  // listed, and so is all of released segments. False for a bad frame (nothing has changed) or a
  // batch that does not exist.
  bool ApplyResults(Handle batch, const uint8_t* frame, size_t length, const Now& now,
                    std::vector<Verdict>* verdicts);
  // Ends a batch; what had not reported is listed and still RUNNING: each must be retried or ended.
  bool EndBatch(Handle batch, std::vector<Handle>* lost);
  // Puts a batch back: its tasks are ready again, the attempt not spent. Tasks that somebody asked
  // to end, and those of released segments, are listed and still RUNNING.
  bool Unclaim(Handle batch, const Now& now, std::vector<Handle>* left);
  // Slots of a batch that have not reported.
  size_t Unreported(Handle batch, uint32_t* out, size_t capacity) const;
  // The types of a batch's tasks, by slot; kNone for those that have reported.
  size_t TypesOf(Handle batch, uint32_t* out, size_t capacity) const;
  // Where a task runs. False if in no batch.
  bool PlaceOf(Handle task, Handle* batch, uint32_t* slot) const;
  // The incarnation that runs a RUNNING task, or ran one that has ended, until that is durable; null
  // for others.
  const std::string* ExecutorOf(Handle task) const;

  // ---- Single tasks: what policy decides. About those of released segments, it is not up to this
  // node: they are refused.

  // RUNNING and in no batch -> PENDING until then, or until Resume. False if it is not so.
  bool Retry(Handle task, double due_wall_ms, double due_mono_ms, bool spent, const Now& now);
  enum class RescheduleAnswer : uint8_t { kGone, kRescheduled, kRunning, kEnded };
  // PENDING -> PENDING until then, or until Resume; a time to live counts from there. `by_date`: it
  // is due by the wall clock, should that jump.
  RescheduleAnswer Reschedule(Handle task, double due_wall_ms, double due_mono_ms, bool by_date,
                              const Now& now);
  // FAILED, and durably so -> PENDING, at once, as another version: attempts and losses begin anew,
  // and it has no time to live. False if it is not so. REQUIRES: no cut is open.
  bool Redrive(Handle task, const Now& now);
  // To an ended state, from RUNNING and in no batch, or from PENDING. False if the task cannot go
  // there.
  bool End(Handle task, TaskState state, const uint8_t* bytes, size_t length, const Now& now);
  // One more thread or process died under it. Returns how many have. 0: no such task.
  uint32_t NoteLoss(Handle task);
  // From when it is ready next, it runs with nothing beside it; so does a task with
  // `kLossesBeforeAlone` losses. False if it has ended, or there is no such task.
  bool Isolate(Handle task);
  enum class CancelAnswer : uint8_t { kGone, kCancelled, kRunning, kEnded };
  // PENDING -> CANCELLED with these bytes; a running task is only marked (IsCancelAsked).
  CancelAnswer Cancel(Handle task, const uint8_t* bytes, size_t length, const Now& now);
  enum class WatchAnswer : uint8_t { kGone, kWatching, kSettled };
  // The task's end shall be listed when it is durable.
  WatchAnswer Watch(Handle task);
  void Unwatch(Handle task);

  struct TaskView {
    TaskState state;
    bool is_settled, is_filed, is_ready, is_cancel_asked, must_be_alone, is_released, is_parked;
    int16_t priority;
    uint16_t attempt, losses;
    uint32_t index, type, version;
    double due_at_ms, changed_at_ms, submitted_at_ms, expires_at_ms;
    const std::string *type_name, *tenant;
    const uint8_t *payload, *metadata, *end;
    uint32_t payload_length, metadata_length, end_length;
    Handle segment;
  };
  bool View(Handle task, TaskView* out) const;
  bool Ref(Handle segment, Text* out) const;
  struct SegmentView {
    uint32_t tasks, open;
    bool has_overlay, is_dirty, takes_overlay;
  };
  bool ViewSegment(Handle segment, SegmentView* out) const;

  // ---- Commits

  // Opens a cut: what one commit writes. It ends with Settle or Revert.
  Handle BeginCut();
  // The first dirty segment, or 0.
  Handle FirstDirty() const;

  struct FileLimits {
    uint32_t keep_mask;  // a bit for each TaskState whose tasks are kept
    double operations_left;
    double bytes_left;
  };
  struct Filing {
    bool touched = false;  // newly, by this
    uint32_t filed = 0;
    uint32_t left = 0;          // ended, but beyond the limits: the segment stays dirty
    uint32_t dead_letters = 0;  // listed; one operation each
    double dead_letter_bytes = 0;
    size_t frame_bytes = 0;  // of the frame of what is kept; 0: there is none
    bool complete = false;   // every task is filed
  };
  // Takes a segment off the list of dirty ones and files its ended tasks. The frame is written by
  // WriteFiled.
  bool File(Handle cut, Handle segment, const FileLimits& limits, Filing* out,
            std::vector<Handle>* dead_letters);
  void WriteFiled(uint8_t* out);
  // The dead letter of a failed task; see src/engine/finished.ts. MeasureDeadLetter is 0 if there
  // is no such task.
  size_t MeasureDeadLetter(Handle task);
  void WriteDeadLetter(Handle task, uint8_t* out);

  // The size of a segment's overlay, or 0 if all its tasks are as submitted. Unfiled ends stand as
  // RUNNING here, under who ran them.
  size_t MeasureOverlay(Handle segment);
  void WriteOverlay(Handle segment, uint8_t* out);

  // Segments that the cut touched, in this order.
  const std::vector<Handle>* Touched(Handle cut) const;

  struct Ended {
    Handle task;
    TaskState state;
    uint32_t end_length;
    const uint8_t* end;
  };
  struct Settled {
    uint32_t tasks = 0;
    double bytes = 0;  // payload bytes that are free again
  };
  // The commit is done: ends are durable. Lists the watched tasks; their bytes are good until
  // FreeEnds.
  bool Settle(Handle cut, Settled* out, std::vector<Ended>* watched);
  void FreeEnds();
  // The commit certainly was not applied: ends are unfiled, touched segments dirty.
  bool Revert(Handle cut);

  size_t bytes() const;
  bool Check();

  static constexpr uint16_t kLossesBeforeAlone = 2;
  static constexpr size_t kUnhandledKept = 256;

 private:
  enum Flag : uint8_t {
    kTimed = 1,     // `link` is its timer
    kReady = 2,     // due: in a ready queue, or without a handler
    kFiled = 4,     // its end is in a commit
    kSettled = 8,   // its end is durable
    kWatched = 16,  // somebody waits for that
    kCancelAsked = 32,
    kHasTtl = 64,
    kInBatch = 128,  // `link` is its batch
  };

  enum Trait : uint32_t {
    kHasExtras = 1,   // the frame's record has a version or metadata
    kIsolated = 2,    // see Isolate
    kAmongAlone = 4,  // ready or in a batch: it was in the queue of those that run alone
    kListed = 8,      // pending: it is listed for TakeExpired
    kWaitsHere = 16,  // pending: it waits since a run that this table settled (see ShiftWaits)
    kKeyed = 64,      // it is in keyed_
    kHasSlot = 128,   // of its key: in a ready queue, or running
    kParked = 256,    // ready, and waits for one
    kMoved = 32,      // it is due at another time than submitted, and lives as long from there
  };

  // Bytes that tasks ended with; shared by those that came in one frame.
  struct EndBlock {
    SlabBlock block;
    uint32_t references;
    uint32_t pad;
    uint8_t* bytes() { return reinterpret_cast<uint8_t*>(this + 1); }
  };

  struct Task {
    double due_at_ms;
    double changed_at_ms;  // 0: as submitted
    EndBlock* end;         // null: not ended, or without bytes
    union {
      uint32_t end_at;
      uint32_t traits;  // not ended: a set of Trait
    };
    uint32_t end_length;
    uint32_t payload_at;  // in the frame
    uint32_t payload_length;
    // Ready: stamp of its entry, 0 if in no queue. RUNNING, or ended and not settled: the executor,
    // kNone if it ended without having run.
    uint32_t mark;
    uint32_t
        link;  // PENDING: its timer; in a batch: that; ended: the next ended task of the segment
    uint32_t type;
    uint32_t tenant;
    uint16_t attempt;
    uint16_t losses;
    int16_t priority;
    TaskState state;
    uint8_t flags;
  };
  static_assert(sizeof(Task) == 64, "a task is one cache line");

  struct alignas(64) Segment {
    SlabBlock block;
    uint8_t* frame;
    uint32_t frame_length;
    uint32_t records_offset;
    uint32_t bytes_offset;
    uint32_t count;
    uint32_t open;  // tasks whose end is not filed; released: those that are not forgotten
    uint32_t in_batches;
    uint32_t page;  // the first of its pages
    uint32_t string_count;
    uint32_t* strings;  // interned, by place in the frame's table; kNone: not used by a task
    const char* ref;
    uint32_t ref_length;
    uint32_t ref_hash;
    uint32_t ended_first, ended_last, ended_count;  // ended and not filed
    uint32_t dirty_previous, dirty_next;            // by first page
    uint64_t touched_by;                            // the last cut that did
    uint64_t packed_by;                             // the last batch frame it has a string in
    uint16_t packed_string;
    bool is_dirty, has_overlay, is_held, is_released;
    bool takes_overlay;  // as it came
    Task* tasks() { return reinterpret_cast<Task*>(this + 1); }
    const Task* tasks() const { return reinterpret_cast<const Task*>(this + 1); }
  };

  struct Page {
    Task* tasks = nullptr;  // of this page; null: the page is free
    Segment* segment = nullptr;
    uint32_t generation = 0;
    uint32_t next = kNone;  // page of the same segment, or free page
    uint32_t part = 0;      // which 256 of the segment's tasks
  };

  struct Type {
    uint32_t name = kNone;
    uint32_t place = kNone;  // kNone: no handler here
    uint32_t queue_type = 0;
    bool is_just_in_time = false;  // never claimed ahead
    uint32_t per_key = 1;
    double tenant_credits_max = std::numeric_limits<double>::infinity();
    double average_run_ms = 0;
  };

  // See task_keys.cc.
  struct Key {
    uint32_t used = 0;
    std::deque<Handle> parked;
  };
  struct Keyed {
    uint32_t number;
    uint32_t key;
  };

  struct Batch {
    std::vector<uint32_t> tasks;
    std::vector<uint8_t> has_reported;
    uint32_t generation = 0;
    uint32_t open = 0;
    bool used = false;
  };

  struct Cut {
    std::vector<Handle> touched;
    std::vector<Handle> filed;
    uint32_t generation = 0;
    uint64_t number = 0;
    bool used = false;
  };

  static constexpr unsigned kPageBits = 8;
  static constexpr uint32_t kPageTasks = 1u << kPageBits;
  static constexpr uint32_t kPagesMax = 1u << 24;
  static constexpr unsigned kPageChunkBits = 12;
  static constexpr uint32_t kPageChunk = 1u << kPageChunkBits;
  static constexpr uint32_t kGenerationMax = (1u << 21) - 1;
  static constexpr size_t kPrefetchAhead = 8;

  static Handle MakeHandle(uint32_t generation, uint32_t number) {
    return uint64_t{generation} << 32 | number;
  }

  Page& PageAt(uint32_t page) const {
    return pages_[page >> kPageChunkBits][page & (kPageChunk - 1)];
  }
  const Page& PageOf(uint32_t number) const { return PageAt(number >> kPageBits); }
  Task* At(uint32_t number) const { return PageOf(number).tasks + (number & (kPageTasks - 1)); }
  Segment* SegmentOf(uint32_t number) const { return PageOf(number).segment; }
  Handle HandleOf(uint32_t number) const { return MakeHandle(PageOf(number).generation, number); }
  Handle HandleOf(const Segment* segment) const { return HandleOf(segment->page << kPageBits); }
  uint32_t NumberOf(const Segment* segment, uint32_t index) const;
  uint32_t IndexOf(uint32_t number) const {
    return PageOf(number).part * kPageTasks + (number & (kPageTasks - 1));
  }
  const uint8_t* RecordOf(uint32_t number) const {
    const Segment* segment = SegmentOf(number);
    return segment->frame + segment->records_offset + size_t{IndexOf(number)} * kTaskBytes;
  }
  void Prefetch(uint32_t number) const;
  // Whether only the place of a task is left.
  static bool IsForgotten(const Segment* segment, const Task& task) {
    return segment->is_released && task.state != TaskState::kRunning;
  }
  // Null unless the handle is good.
  Task* FindTask(Handle handle) const;
  Segment* FindSegment(Handle handle) const;
  Batch* FindBatch(Handle handle);
  const Batch* FindBatch(Handle handle) const;
  Cut* FindCut(Handle handle);
  // Each place has two ready queues. Who runs alone waits in the second, without regard to types.
  static constexpr uint32_t kQueues = 2 * kPlaces;
  static uint32_t QueueOf(uint32_t place, bool alone) { return alone ? kPlaces + place : place; }
  uint32_t QueueOf(const Task& task) const {
    return QueueOf(types_[task.type].place, (task.traits & kAmongAlone) != 0);
  }
  // Which type its queue knows it as.
  uint32_t QueueTypeOf(const Task& task) const {
    return (task.traits & kAmongAlone) != 0 ? 0 : types_[task.type].queue_type;
  }
  bool MustBeAlone(const Task& task) const {
    return task.losses >= kLossesBeforeAlone || (task.traits & kIsolated) != 0;
  }
  // A tenant by itself is limited: of one type, or of all.
  static uint64_t ScopeOf(uint32_t type, uint32_t tenant) { return uint64_t{type} << 32 | tenant; }
  double TenantCreditsMax(uint32_t type) const {
    return type == kNone ? tenant_credits_max_ : types_[type].tenant_credits_max;
  }
  bool HasTenantCredit(uint32_t type, uint32_t tenant) const;
  void SpendTenantCredits(uint32_t type, uint32_t tenant);
  void SpendTenantCredit(uint32_t scope_type, uint32_t tenant);
  void ApplyStop(uint32_t type, uint32_t tenant);
  void ReturnAside(uint32_t queue, const Now& now);

  void SetKey(uint32_t number, const Text& key);
  // Its string; kNone: it has none.
  uint32_t KeyOf(const Task& task) const;
  void ParkForSlot(Task* task);
  void TakeSlot(Task* task);
  void LeaveSlot(Task* task);
  void LetIn(uint32_t key);
  void LetAllIn();
  void ForgetKey(Task* task);

  // Whether an entry of a ready queue still stands for a task.
  bool IsReadyEntry(uint32_t queue, uint32_t number, uint32_t stamp) const;
  void SweepReady(uint32_t queue);
  void SweepAllReady();

  bool TakePages(uint32_t count, uint32_t* first);
  void FreePages(uint32_t first);
  uint32_t TypeFor(uint32_t string);
  void ReleaseString(uint32_t string);
  void ForgetTask(Task* task);
  void FreeSegment(Segment* segment);

  void PassTime(const Now& now);
  void SetState(Task* task, TaskState state);
  void Move(Task* task, TaskState state, double at_ms);
  void EnterReady(uint32_t number, Task* task, const Now& now);
  void LeaveReady(Task* task);
  void MakeReady(uint32_t number, Task* task, const Now& now);
  void WaitUntil(uint32_t number, Task* task, double due_mono_ms, const Now& now);
  void StartTimer(uint32_t number, Task* task, double at_mono_ms);
  void StopTimer(Task* task);
  void StopWaiting(Task* task);
  void ListExpired(uint32_t number, Task* task);
  double ExpiresAt(uint32_t number, const Task& task) const {
    const uint8_t* record = RecordOf(number);
    const double at = ReadAs<double>(record + 16);
    const bool is_moved = task.state < TaskState::kCompleted && (task.traits & kMoved) != 0;
    return at != 0 && is_moved ? at + task.due_at_ms - ReadAs<double>(record) : at;
  }

  EndBlock* NewEnd(size_t length);
  void SetVersion(uint32_t number, Task* task, uint32_t version);
  void ReleaseEnd(Task* task);
  void ReleaseExecutor(Task* task);
  void Finish(uint32_t number, Task* task, TaskState state, EndBlock* end, uint32_t at,
              uint32_t length, double at_ms);
  void BackToPending(uint32_t number, Task* task, const Now& now);
  void LeaveBatch(uint32_t number, Task* task);
  void FreeBatch(Batch* batch);
  void FreeCut(Cut* cut);

  void MarkDirty(Segment* segment);
  void UnmarkDirty(Segment* segment);
  bool Touch(Cut* cut, Segment* segment);
  void AppendEnded(Segment* segment, uint32_t index);
  size_t DeadLetterParts(uint32_t number, FrameSizer* states, FrameSizer* tasks);
  uint32_t ExecutorInOverlay(const Task& task) const;
  void WriteStateRecord(uint8_t* at, uint32_t number, const Task& task, TaskState state,
                        uint16_t executor) const;

  TaskCounters* const counters_;
  StringInterner strings_;  // types, tenants, executors
  std::vector<uint32_t> type_of_string_;
  std::vector<Type> types_;
  std::vector<uint32_t> unused_types_;
  uint32_t executor_;

  TaskSlab slab_;
  double trim_at_ms_ = 0;                       // when spare memory may go back next
  std::vector<std::unique_ptr<Page[]>> pages_;  // by kPageChunk
  uint32_t page_limit_ = 0;                     // pages ever used
  uint32_t generation_base_ = 0;                // of pages never used
  uint32_t generation_top_ = 0;                 // the highest given out
  uint32_t free_first_ = kNone;
  uint32_t free_last_ = kNone;
  HashIndex refs_;
  uint32_t dirty_first_ = kNone;
  uint32_t dirty_last_ = kNone;

  TaskTimers timers_;
  ReadyQueue ready_[kQueues];
  // Tenants that have spent something: by ScopeOf, what they have left. Each holds a reference to
  // its tenant's string.
  std::unordered_map<uint64_t, double> tenant_credits_;
  std::unordered_set<uint32_t> stopped_tenants_;
  double tenant_credits_max_ = std::numeric_limits<double>::infinity();
  bool limits_tenants_ = false;  // of all, or of any type
  std::vector<uint32_t> aside_;  // see Claim
  // Tasks with a key, and keys of which slots are used; both empty where nobody uses keys. The first
  // holds a reference to each one's string.
  std::unordered_map<const Task*, Keyed> keyed_;
  std::unordered_map<uint32_t, Key> keys_;
  std::vector<uint32_t> due_;
  std::vector<Handle> expired_;
  std::vector<Handle> unhandled_;

  std::vector<Batch> batches_;
  std::vector<uint32_t> unused_batches_;
  std::vector<Cut> cuts_;
  std::vector<uint32_t> unused_cuts_;
  uint64_t cut_number_ = 0;

  // For frames about to be written, and decoded.
  FrameSizer sizer_;
  FrameSizer inner_sizer_;
  uint64_t pack_number_ = 0;
  std::vector<uint32_t> to_file_;  // what the next WriteFiled writes
  std::vector<ResultFields> results_;
  std::vector<StateFields> states_;
  std::vector<Text> texts_;
  struct Packed {
    uint64_t by;
    uint16_t string;
  };
  std::vector<Packed> packed_;  // by interned string: its place in the batch frame at hand
  std::vector<EndBlock*> ends_to_free_;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TASK_TABLE_H_

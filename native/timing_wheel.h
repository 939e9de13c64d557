// TimingWheel: pending timers by due tick, outside the JavaScript heap.
//
// One tick is one millisecond of the caller's clock. A slot is a list of chunks of small entries
// (chunk_arena.h) that name a record (timer_records.h); nothing is linked per timer, and cancelling
// touches no slot.
//
//   level 0   8192 slots of 1 ms      the current window of 4096 ms, and the next one
//   level 1   8192 slots of 4.096 s   the current super-window of 4096 windows, and the next one
//   level 2   4096 slots of 4.66 h    the 4095 super-windows after the current one: 2.18 years
//   overflow  heap                    everything later
//   late      heap                    what was already due when it was scheduled
//
// Pacing. A level always has room for the next window as well as for the current one. So while time
// passes through window w, the level 1 slot of window w + 1 is emptied into level 0 a little at
// every tick, in proportion to the time that has passed, and is empty when w + 1 begins. Likewise
// from level 2 (and the overflow heap) into level 1. No tick moves more than its share. A timer
// moves at most three times, one that is due within 4 s never.
//
// Order. Timers of one tick come out in the order of scheduling, without a sequence number and
// without sorting. Each slot has two lists: `moved` for what came down from the level above and
// `direct` for what was scheduled into the slot. A tick is first too far away for level 0, then
// near enough for it, and never the reverse. So all that came down was scheduled before all that
// went in directly; each list is in order; and the slot is `moved`, then `direct`. The same holds
// one level up, and for late timers, which were all scheduled after their tick had come.
//
// Reclamation. A cancelled or rescheduled timer leaves its entry behind, stale. It is dropped when
// it is come upon. When there are three stale entries for two live ones, a sweep goes through all
// slots in bounded steps and closes the gaps.
//
// Invariants: (1) every record in use is named by exactly one entry with its stamp; (2) on entering
// a window its level 1 slot is empty, on entering the last window of a super-window the level 2
// slot of the next is; (3) an occupancy bit is set if and only if its slot has a list that is not
// empty; (4) NextDue() is never later than the earliest deadline. Check() verifies them.
//
// Thread safety: none; owned by one JavaScript thread. Time comes in as an argument.
//
// Cost: Insert O(1); Advance O(fired + its share of moves), and occupied slots rather than time for
// a jump; NextDue O(1). Sources: Varghese & Lauck 1987, scheme 7; bitmaps as in the Linux kernel;
// the pacing is our own.
#ifndef MILLRACE_NATIVE_TIMING_WHEEL_H_
#define MILLRACE_NATIVE_TIMING_WHEEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "chunk_arena.h"
#include "due_heap.h"
#include "occupancy.h"
#include "timer_records.h"

// The invariant checker is part of sanitizer builds, and of debug builds by way of binding.gyp.
#if !defined(MILLRACE_CHECK)
#if defined(__SANITIZE_ADDRESS__)
#define MILLRACE_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MILLRACE_CHECK 1
#endif
#endif
#endif

namespace millrace {

using Tick = int64_t;
constexpr Tick kNever = INT64_MAX;

class TimingWheel {
 public:
  // The records must outlive the wheel's use. REQUIRES: 0 <= start < 2^53.
  TimingWheel(Tick start, TimerRecords* records);
  TimingWheel(const TimingWheel&) = delete;
  TimingWheel& operator=(const TimingWheel&) = delete;

  // Adds the scheduling `stamp` of the timer with this record. What is due at or before the present
  // is due at once. REQUIRES: due < 2^53; the record's stamp is `stamp`.
  void Insert(Tick due, uint32_t index, uint32_t stamp);

  // Moves time to `now` and writes the tokens of the timers that are due, ordered by (due, order of
  // scheduling). Returns their number. When that is `capacity`, there may be more: call again with
  // the same `now`. A `now` before the last one fires nothing. A capacity of 0 moves time up to the
  // first timer that is due.
  size_t Advance(Tick now, uint32_t* out, size_t capacity);

  // When the earliest timer is due, or kNever. Never later than that; it can be earlier when the
  // earliest entry of a slot of level 1 or 2 has gone stale.
  Tick NextDue();

  // Until when Advance() has neither a timer to fire nor entries to move, so that calls before it
  // can be skipped. Never later than NextDue() or the present, whichever is later; cheaper, since
  // it looks at no record.
  Tick QuietUntil() const;

  // Goes on with the sweep of stale entries, or starts one if there is reason to; looks at about
  // `budget` entries.
  void Reclaim(size_t budget);

  // Asks for a complete sweep, however few entries are stale. Due every 2^29 stamps: see
  // timer_records.h.
  void RequestSweep() { sweep_requested_ = true; }

  // Entries in slots and heaps, stale ones included.
  size_t entries() const { return entries_; }
  // Entries moved down a level so far.
  uint64_t moved() const { return moved_; }
  bool is_sweeping() const { return sweep_level_ != kNotSweeping; }
  size_t bytes() const;

  // Verifies the invariants; prints the first that fails and returns false. O(everything). Only in
  // builds with MILLRACE_CHECK (debug and sanitizer builds); otherwise returns true.
  bool Check();

 private:
  static constexpr unsigned kBits = 12;
  static constexpr Tick kWindowTicks = Tick{1} << kBits;
  static constexpr Tick kWindowMask = kWindowTicks - 1;
  static constexpr Tick kSuperMask = (Tick{1} << 2 * kBits) - 1;
  static constexpr unsigned kRing = 2u << kBits;   // slots of levels 0 and 1
  static constexpr unsigned kRing2 = 1u << kBits;  // slots of level 2
  static constexpr unsigned kRingMask = kRing - 1;
  static constexpr unsigned kRing2Mask = kRing2 - 1;
  // Lists, in one array: moved and direct of level 0, moved and direct of level 1, level 2.
  static constexpr unsigned kMoved0 = 0;
  static constexpr unsigned kDirect0 = kRing;
  static constexpr unsigned kMoved1 = 2 * kRing;
  static constexpr unsigned kDirect1 = 3 * kRing;
  static constexpr unsigned kLevel2 = 4 * kRing;
  static constexpr unsigned kLists = 4 * kRing + kRing2;

  struct List {
    ChunkRef head;
    ChunkRef tail;
  };

  // Everything of fixed size, 370 KiB, untouched memory until used.
  struct Slots {
    List lists[kLists];
    uint32_t count1[kRing];     // entries in both lists of a slot
    uint16_t earliest1[kRing];  // offset of the earliest entry put in since the slot was empty
    uint32_t count2[kRing2];
    uint32_t earliest2[kRing2];
  };

  class HandOut;

  static unsigned Slot0(Tick tick) { return static_cast<unsigned>(tick & kRingMask); }
  static unsigned Slot1(Tick window) { return static_cast<unsigned>(window & kRingMask); }
  static unsigned Slot2(Tick super) { return static_cast<unsigned>(super & kRing2Mask); }
  Tick window() const { return cursor_ >> kBits; }
  Tick super() const { return cursor_ >> 2 * kBits; }

  void Append(unsigned list, const Entry& entry, unsigned first_class);
  void AppendChunk(List* list, const Entry& entry, unsigned first_class);
  static unsigned ClassForSlots(uint64_t timers_in_window);
  void PutLevel1(unsigned lists, Tick due, uint32_t index, uint32_t stamp);
  void PopChunk(List* list);

  bool HandOutCursor(HandOut* out);
  bool HandOutList(unsigned list, HandOut* out);
  bool HandOutLate(Tick until, HandOut* out);
  void PrefetchSlot(Tick tick) const;

  void Step();
  void Enter(Tick window);
  Tick FirstOccupiedWindow() const;
  void Pace(Tick ticks);
  void Drain1(Tick window, uint64_t quota);
  void Drain2(Tick super, uint64_t quota);

  bool TrimSlot(unsigned slot, unsigned* budget);
  Tick FirstInWindow(unsigned from, unsigned end, Tick tick_of_from, unsigned* budget);

  void StartSweep();
  bool SweepNextList(size_t* budget);
  bool SweepList(unsigned list, size_t* budget);
  bool SweepHeap(DueHeap* heap, size_t* budget);
  void AfterSweep(unsigned list, size_t dropped);
  void Clear();

  Tick cursor_;  // the tick being handed out; everything before it has been
  Tick now_;     // the latest time heard of
  TimerRecords* const records_;
  size_t entries_ = 0;  // in slots and heaps, stale ones included
  uint64_t order_ = 0;  // for the heaps
  uint64_t moved_ = 0;

  std::unique_ptr<Slots, void (*)(Slots*)> slots_;
  ChunkArena arena_;
  Occupancy<kRing> occupied0_;
  Occupancy<kRing> occupied1_;
  Occupancy<kRing2> occupied2_;
  DueHeap overflow_;
  DueHeap late_;
  // The window whose slot of level 1 was last emptied from, and the first chunks of the slots it
  // goes to.
  Tick moving_window_ = -1;
  unsigned moving_class_ = 0;

  // Where the sweep is: level 0, 1, 2, then the heaps (3, 4).
  static constexpr unsigned kNotSweeping = ~0u;
  unsigned sweep_level_ = kNotSweeping;
  unsigned sweep_slot_ = 0;
  bool sweep_direct_ = false;           // in the second list of the slot
  ChunkRef sweep_previous_ = kNoChunk;  // the last chunk of the list that is done
  size_t sweep_heap_at_ = 0;
  bool sweep_requested_ = false;
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TIMING_WHEEL_H_

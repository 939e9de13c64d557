// The invariants of timing_wheel.h, verified entry by entry. Part of debug and sanitizer builds.
#include <cstdio>

#include "timing_wheel.h"

namespace millrace {

#if defined(MILLRACE_CHECK)

namespace {
bool Fails(const char* what) {
  std::fprintf(stderr, "timing wheel: %s\n", what);
  return false;
}
}  // namespace

bool TimingWheel::Check() {
  size_t entries = 0;
  size_t live = 0;
  Tick earliest = kNever;
  const auto see = [&](uint32_t index, uint32_t stamp, Tick due) {
    entries++;
    if (!records_->IsCurrent(index, stamp)) return;
    live++;
    if (due < earliest) earliest = due;
  };
  // Walks a list; `due_of` gives the due tick of an entry, or kNever if the entry is in the wrong
  // place.
  const auto walk = [&](unsigned list, auto due_of) {
    const List& l = slots_->lists[list];
    size_t count = 0;
    ChunkRef last = kNoChunk;
    for (ChunkRef ref = l.head; ref != kNoChunk; ref = arena_.At(ref)->next) {
      const Chunk* chunk = arena_.At(ref);
      for (unsigned i = chunk->begin; i < chunk->end; i++) {
        const Tick due = due_of(chunk->entries[i].offset);
        if (due == kNever) return ~size_t{0};
        see(chunk->entries[i].index, chunk->entries[i].stamp, due);
        count++;
      }
      last = ref;
    }
    return last == l.tail ? count : ~size_t{0};
  };

  for (unsigned slot = 0; slot < kRing; slot++) {
    const Tick base = cursor_ & ~kWindowMask;
    const Tick tick = base + ((slot - Slot0(base)) & kRingMask);
    const auto due_of = [&](uint32_t offset) {
      return (offset & kWindowMask) == (tick & kWindowMask) && tick >= cursor_ ? tick : kNever;
    };
    const size_t moved = walk(kMoved0 + slot, due_of);
    const size_t direct = walk(kDirect0 + slot, due_of);
    if (moved == ~size_t{0} || direct == ~size_t{0}) return Fails("a level 0 list is damaged");
    const bool has_list = slots_->lists[kMoved0 + slot].head != kNoChunk ||
                          slots_->lists[kDirect0 + slot].head != kNoChunk;
    if (occupied0_.Has(slot) != has_list) return Fails("a level 0 bit is wrong");
  }
  for (unsigned slot = 0; slot < kRing; slot++) {
    const Tick base = super() << kBits;
    const Tick window_of_slot = base + ((slot - Slot1(base)) & kRingMask);
    const auto due_of = [&](uint32_t offset) {
      const Tick in_window = offset & kWindowMask;
      return in_window >= slots_->earliest1[slot] ? (window_of_slot << kBits) + in_window : kNever;
    };
    const size_t moved = walk(kMoved1 + slot, due_of);
    const size_t direct = walk(kDirect1 + slot, due_of);
    if (moved == ~size_t{0} || direct == ~size_t{0}) return Fails("a level 1 list is damaged");
    if (moved + direct != slots_->count1[slot]) return Fails("a level 1 count is wrong");
    if (occupied1_.Has(slot) != (moved + direct != 0)) return Fails("a level 1 bit is wrong");
    if (moved + direct != 0 && window_of_slot <= window()) {
      return Fails("the level 1 slot of a window that has begun is not empty");
    }
  }
  for (unsigned slot = 0; slot < kRing2; slot++) {
    const Tick super_of_slot = super() + ((slot - Slot2(super())) & kRing2Mask);
    const size_t count = walk(kLevel2 + slot, [&](uint32_t offset) {
      return offset >= slots_->earliest2[slot] ? (super_of_slot << 2 * kBits) + offset : kNever;
    });
    if (count == ~size_t{0}) return Fails("a level 2 list is damaged");
    if (count != slots_->count2[slot]) return Fails("a level 2 count is wrong");
    if (occupied2_.Has(slot) != (count != 0)) return Fails("a level 2 bit is wrong");
    const bool is_last_window = (window() & kWindowMask) == kWindowMask;
    if (count != 0 && super_of_slot <= super() + (is_last_window ? 1 : 0)) {
      return Fails("the level 2 slot of a super-window that has begun is not empty");
    }
  }
  for (size_t i = 0; i < overflow_.size(); i++) {
    const DueHeap::Item& item = overflow_.at(i);
    if (item.due >> 2 * kBits <= super()) return Fails("the overflow heap has a near timer");
    see(item.index, item.stamp, item.due);
  }
  for (size_t i = 0; i < late_.size(); i++) {
    const DueHeap::Item& item = late_.at(i);
    if (item.due > cursor_) return Fails("the late heap has a future timer");
    see(item.index, item.stamp, item.due);
  }
  if (entries != entries_) return Fails("the number of entries is wrong");
  if (live != records_->live()) return Fails("a live timer has no entry, or two");
  const Tick next = NextDue();
  if (next > earliest) return Fails("NextDue() is later than the earliest deadline");
  if ((next == kNever) != (live == 0)) return Fails("NextDue() misjudges emptiness");
  return true;
}

#else

bool TimingWheel::Check() { return true; }

#endif

}  // namespace millrace

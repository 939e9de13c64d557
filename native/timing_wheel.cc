#include "timing_wheel.h"

#include <cstdio>
#include <cstdlib>

namespace millrace {
namespace {

// How many stale entries NextDue() looks past before it settles for a lower bound.
constexpr unsigned kTrimMax = 64;

}  // namespace

// The timers found due, on their way out. The record of a timer is a cache miss, so entries wait
// here in a short queue while their records are being fetched. Never holds more than `out` has room
// for.
class TimingWheel::HandOut {
 public:
  HandOut(TimerRecords* records, uint32_t* out, size_t capacity)
      : records_(records), out_(out), capacity_(capacity) {}

  // Whether another entry can be taken.
  bool HasRoom() {
    if (written_ + waiting_ < capacity_) return true;
    Settle(0);
    return written_ < capacity_;
  }

  // REQUIRES: HasRoom().
  void Take(uint32_t index, uint32_t stamp) {
    records_->Prefetch(index);
    queue_[(first_ + waiting_) % kAhead] = {index, stamp};
    if (++waiting_ == kAhead) Settle(kAhead - 1);
  }

  size_t Finish() {
    Settle(0);
    return written_;
  }

 private:
  static constexpr unsigned kAhead = 16;

  struct Waiting {
    uint32_t index;
    uint32_t stamp;
  };

  void Settle(unsigned keep) {
    while (waiting_ > keep) {
      const Waiting& next = queue_[first_];
      if (records_->Fire(next.index, next.stamp, out_ + written_)) written_++;
      first_ = (first_ + 1) % kAhead;
      waiting_--;
    }
  }

  TimerRecords* const records_;
  uint32_t* const out_;
  const size_t capacity_;
  size_t written_ = 0;
  unsigned first_ = 0;
  unsigned waiting_ = 0;
  Waiting queue_[kAhead];
};

TimingWheel::TimingWheel(Tick start, TimerRecords* records)
    : cursor_(start),
      now_(start),
      records_(records),
      slots_(static_cast<Slots*>(std::calloc(1, sizeof(Slots))),
             [](Slots* slots) { std::free(slots); }) {
  if (slots_ == nullptr) {
    std::fprintf(stderr, "millrace: out of memory for a timing wheel\n");
    std::abort();
  }
}

size_t TimingWheel::bytes() const {
  return sizeof(*this) + sizeof(Slots) + arena_.bytes() + overflow_.bytes() + late_.bytes();
}

// ---- Putting in

void TimingWheel::Insert(Tick due, uint32_t index, uint32_t stamp) {
  entries_++;
  if (due <= cursor_) {
    late_.Push({due, order_++, index, stamp});
    return;
  }
  if ((due >> kBits) - window() <= 1) {
    const unsigned slot = Slot0(due);
    Append(kDirect0 + slot, {index, stamp, static_cast<uint32_t>(due & kWindowMask)}, 0);
    occupied0_.Set(slot);
    return;
  }
  const Tick super_due = due >> 2 * kBits;
  if (super_due - super() <= 1) {
    PutLevel1(kDirect1, due, index, stamp);
    return;
  }
  if (super_due - super() < static_cast<Tick>(kRing2)) {
    const unsigned slot = Slot2(super_due);
    const uint32_t offset = static_cast<uint32_t>(due & kSuperMask);
    Append(kLevel2 + slot, {index, stamp, offset}, 0);
    if (slots_->count2[slot]++ == 0) {
      slots_->earliest2[slot] = offset;
      occupied2_.Set(slot);
    } else if (offset < slots_->earliest2[slot]) {
      slots_->earliest2[slot] = offset;
    }
    return;
  }
  overflow_.Push({due, order_++, index, stamp});
}

void TimingWheel::PutLevel1(unsigned lists, Tick due, uint32_t index, uint32_t stamp) {
  const unsigned slot = Slot1(due >> kBits);
  const uint16_t offset = static_cast<uint16_t>(due & kWindowMask);
  Append(lists + slot, {index, stamp, offset}, 0);
  if (slots_->count1[slot]++ == 0) {
    slots_->earliest1[slot] = offset;
    occupied1_.Set(slot);
  } else if (offset < slots_->earliest1[slot]) {
    slots_->earliest1[slot] = offset;
  }
}

inline void TimingWheel::Append(unsigned list, const Entry& entry, unsigned first_class) {
  List& l = slots_->lists[list];
  if (l.tail != kNoChunk) {
    Chunk* tail = arena_.At(l.tail);
    if (tail->end < tail->capacity) {
      tail->entries[tail->end++] = entry;
      return;
    }
  }
  AppendChunk(&l, entry, first_class);
}

// Puts an entry into a new chunk at the end of a list. A first chunk has the class given; the next
// one is half as large if that was an estimate of what would be enough; and each further one twice
// as large as the one before.
void TimingWheel::AppendChunk(List* list, const Entry& entry, unsigned first_class) {
  List& l = *list;
  unsigned size_class = first_class;
  Chunk* tail = nullptr;
  if (l.tail != kNoChunk) {
    tail = arena_.At(l.tail);
    size_class = tail->size_class;
    if (l.head == l.tail && size_class > 0) {
      size_class--;
    } else if (size_class + 1 < ChunkArena::kSizeClasses) {
      size_class++;
    }
  }
  const ChunkRef ref = arena_.Allocate(size_class);
  Chunk* chunk = arena_.At(ref);
  chunk->entries[chunk->end++] = entry;
  if (tail != nullptr) {
    tail->next = ref;
  } else {
    l.head = ref;
  }
  l.tail = ref;
}

// Frees the first chunk of a list. REQUIRES: it has no entries left.
void TimingWheel::PopChunk(List* list) {
  const ChunkRef ref = list->head;
  list->head = arena_.At(ref)->next;
  if (list->head == kNoChunk) list->tail = kNoChunk;
  if (ref == sweep_previous_) sweep_previous_ = kNoChunk;
  arena_.Free(ref);
}

// ---- Time

size_t TimingWheel::Advance(Tick now, uint32_t* out, size_t capacity) {
  if (now < now_) return 0;
  now_ = now;
  HandOut due(records_, out, capacity);
  while (HandOutCursor(&due) && cursor_ < now_) Step();
  return due.Finish();
}

// Hands out everything that is due at the cursor or before. False if there was no room for all of
// it.
bool TimingWheel::HandOutCursor(HandOut* out) {
  PrefetchSlot(cursor_ + 1);
  if (!late_.empty() && !HandOutLate(cursor_ - 1, out)) return false;
  const unsigned slot = Slot0(cursor_);
  if (occupied0_.Has(slot)) {
    if (!HandOutList(kMoved0 + slot, out) || !HandOutList(kDirect0 + slot, out)) return false;
    occupied0_.Clear(slot);
  }
  return late_.empty() || HandOutLate(cursor_, out);
}

// Fetches the first chunks of a slot of level 0 that will be needed soon.
void TimingWheel::PrefetchSlot(Tick tick) const {
  const unsigned slot = Slot0(tick);
  if (!occupied0_.Has(slot)) return;
  for (unsigned lists : {kMoved0, kDirect0}) {
    const ChunkRef head = slots_->lists[lists + slot].head;
    if (head != kNoChunk) Prefetch(arena_.At(head));
  }
}

bool TimingWheel::HandOutList(unsigned list, HandOut* out) {
  List& l = slots_->lists[list];
  while (l.head != kNoChunk) {
    Chunk* chunk = arena_.At(l.head);
    if (chunk->next != kNoChunk) Prefetch(arena_.At(chunk->next));
    while (chunk->begin < chunk->end) {
      if (!out->HasRoom()) return false;
      const Entry& entry = chunk->entries[chunk->begin++];
      out->Take(entry.index, entry.stamp);
      entries_--;
    }
    PopChunk(&l);
  }
  return true;
}

bool TimingWheel::HandOutLate(Tick until, HandOut* out) {
  while (!late_.empty() && late_.top().due <= until) {
    if (!out->HasRoom()) return false;
    out->Take(late_.top().index, late_.top().stamp);
    late_.Pop();
    entries_--;
  }
  return true;
}

// Moves the cursor to the next tick with a timer, or to the end of its window, or to now.
// REQUIRES: cursor_ < now_, and nothing is left at the cursor.
void TimingWheel::Step() {
  const Tick last = cursor_ | kWindowMask;
  Tick target = last < now_ ? last : now_;
  if (target > cursor_) {
    const unsigned from = Slot0(cursor_) + 1;
    const unsigned slot = occupied0_.Next(from, from + static_cast<unsigned>(target - cursor_));
    if (slot != occupied0_.kNone) target = cursor_ + 1 + (slot - from);
    Pace(target - cursor_);
    cursor_ = target;
    return;
  }
  // The end of the window. Now level 0 must be complete for the next one.
  Tick next = window() + 1;
  Drain1(next, ~uint64_t{0});
  const unsigned half = Slot0(next << kBits);
  if (occupied0_.Next(half, half + kRing2) == occupied0_.kNone) {
    next = FirstOccupiedWindow();
    const Tick present = now_ >> kBits;
    if (next > present) next = present;
  }
  Enter(next);
}

// Puts the cursor on the first tick of a later window. REQUIRES: nothing is due before it.
void TimingWheel::Enter(Tick window) {
  const Tick super_window = window >> kBits;
  if (super_window != super()) Drain2(super_window, ~uint64_t{0});
  Drain1(window, ~uint64_t{0});
  cursor_ = window << kBits;
  if ((window & kWindowMask) == kWindowMask) Drain2(super_window + 1, ~uint64_t{0});
}

// The window after the present one's successor that may have the next timer, or kNever.
// REQUIRES: the current window and the next one are empty.
Tick TimingWheel::FirstOccupiedWindow() const {
  const Tick from = window() + 2;
  const Tick next_super = super() + 1;
  const Tick border = next_super << kBits;
  if (from < border) {
    const unsigned begin = Slot1(from);
    const unsigned slot = occupied1_.Next(begin, begin + static_cast<unsigned>(border - from));
    if (slot != occupied1_.kNone) return from + (slot - begin);
  }
  const Tick overflow = overflow_.empty() ? kNever : overflow_.top().due >> 2 * kBits;
  // What is still in the coarse slot of the next super-window can be anywhere in it.
  if (slots_->count2[Slot2(next_super)] != 0 || overflow <= next_super) return border;
  const Tick begin = from < border ? border : from;
  const unsigned slot1 = occupied1_.Next(Slot1(begin), Slot1(border) + kRing2);
  if (slot1 != occupied1_.kNone) return begin + (slot1 - Slot1(begin));
  const unsigned after = Slot2(next_super + 1);
  unsigned slot2 = occupied2_.Next(after, kRing2);
  if (slot2 == occupied2_.kNone) slot2 = occupied2_.Next(0, after);
  Tick first = overflow;
  if (slot2 != occupied2_.kNone) {
    const Tick level2 = next_super + 1 + ((slot2 - after) & kRing2Mask);
    if (level2 < first) first = level2;
  }
  return first == kNever ? kNever : first << kBits;
}

// Moves that share of the next coarse slots that `ticks` are of the time left for it.
void TimingWheel::Pace(Tick ticks) {
  const Tick next = window() + 1;
  const uint64_t count1 = slots_->count1[Slot1(next)];
  if (count1 != 0) {
    const Tick left = (next << kBits) - cursor_;
    Drain1(next, ticks >= left ? count1 : (count1 * ticks + left - 1) / left);
  }
  const Tick next_super = super() + 1;
  uint64_t count2 = slots_->count2[Slot2(next_super)];
  if (!overflow_.empty() && overflow_.top().due >> 2 * kBits <= next_super) {
    count2 += overflow_.size();
  }
  if (count2 != 0) {
    // Until the last window of the super-window begins.
    const Tick left = (((next_super << kBits) - 1) << kBits) - cursor_;
    Drain2(next_super, ticks >= left ? count2 : (count2 * ticks + left - 1) / left);
  }
}

// The class of a chunk that is enough for most slots of level 0 when so many timers are spread over
// a window.
unsigned TimingWheel::ClassForSlots(uint64_t timers_in_window) {
  const uint64_t expected = (timers_in_window >> kBits) + (timers_in_window >> (kBits + 3));
  unsigned size_class = 0;
  while (size_class + 1 < ChunkArena::kSizeClasses && ChunkArena::Capacity(size_class) < expected) {
    size_class++;
  }
  return size_class;
}

// Moves up to `quota` entries from the level 1 slot of a window into level 0. The slots they go to
// are scattered, so a few entries at a time have the slots and chunks fetched that they will need.
void TimingWheel::Drain1(Tick window, uint64_t quota) {
  const unsigned slot = Slot1(window);
  if (slots_->count1[slot] == 0) return;
  const unsigned base = Slot0(window << kBits);
  if (window != moving_window_) {
    moving_window_ = window;
    moving_class_ = ClassForSlots(slots_->count1[slot]);
  }
  for (unsigned lists : {kMoved1, kDirect1}) {
    List& list = slots_->lists[lists + slot];
    while (list.head != kNoChunk) {
      Chunk* chunk = arena_.At(list.head);
      Prefetch(chunk->next != kNoChunk ? arena_.At(chunk->next) : chunk);
      while (chunk->begin < chunk->end) {
        if (quota == 0) return;
        constexpr unsigned kTogether = 16;
        unsigned count = chunk->end - chunk->begin;
        if (count > kTogether) count = kTogether;
        if (count > quota) count = static_cast<unsigned>(quota);
        const Entry* entries = chunk->entries + chunk->begin;
        const List* targets = slots_->lists + kMoved0 + base;
        for (unsigned i = 0; i < count; i++) Prefetch(targets + entries[i].offset);
        for (unsigned i = 0; i < count; i++) {
          const ChunkRef tail = targets[entries[i].offset].tail;
          if (tail != kNoChunk) Prefetch(arena_.At(tail));
        }
        for (unsigned i = 0; i < count; i++) {
          const unsigned target = base + entries[i].offset;
          Append(kMoved0 + target, entries[i], moving_class_);
          occupied0_.Set(target);
        }
        chunk->begin = static_cast<uint8_t>(chunk->begin + count);
        slots_->count1[slot] -= count;
        quota -= count;
        moved_ += count;
      }
      PopChunk(&list);
    }
  }
  occupied1_.Clear(slot);
}

// Moves up to `quota` timers of a super-window into level 1: from the overflow heap, which has the
// older ones, then from level 2.
void TimingWheel::Drain2(Tick super, uint64_t quota) {
  while (!overflow_.empty() && overflow_.top().due >> 2 * kBits <= super) {
    if (quota-- == 0) return;
    const DueHeap::Item item = overflow_.top();
    overflow_.Pop();
    moved_++;
    PutLevel1(kMoved1, item.due, item.index, item.stamp);
  }
  const unsigned slot = Slot2(super);
  if (slots_->count2[slot] == 0) return;
  List& list = slots_->lists[kLevel2 + slot];
  while (list.head != kNoChunk) {
    Chunk* chunk = arena_.At(list.head);
    while (chunk->begin < chunk->end) {
      if (quota-- == 0) return;
      const Entry& entry = chunk->entries[chunk->begin++];
      PutLevel1(kMoved1, (super << 2 * kBits) + entry.offset, entry.index, entry.stamp);
      slots_->count2[slot]--;
      moved_++;
    }
    PopChunk(&list);
  }
  occupied2_.Clear(slot);
}

// ---- The next deadline

Tick TimingWheel::NextDue() {
  if (records_->live() == 0) return kNever;
  unsigned budget = kTrimMax;
  while (!late_.empty()) {
    const DueHeap::Item& top = late_.top();
    if (budget == 0 || records_->IsCurrent(top.index, top.stamp)) return top.due;
    late_.Pop();
    entries_--;
    budget--;
  }
  // The current window, then the next one, part of which may still be in its coarse slot.
  const Tick end = (cursor_ | kWindowMask) + 1;
  const unsigned slot = Slot0(cursor_);
  Tick first = FirstInWindow(slot, slot + static_cast<unsigned>(end - cursor_), cursor_, &budget);
  if (first != kNever) return first;
  first = FirstInWindow(Slot0(end), Slot0(end) + kRing2, end, &budget);
  const unsigned next = Slot1(window() + 1);
  if (slots_->count1[next] != 0) {
    const Tick undrained = end + slots_->earliest1[next];
    if (undrained < first) first = undrained;
  }
  if (first != kNever) return first;
  // Further away: level 1 up to the end of the super-window, then whatever is earliest.
  const Tick from = window() + 2;
  const Tick next_super = super() + 1;
  const Tick border = next_super << kBits;
  if (from < border) {
    const unsigned begin = Slot1(from);
    const unsigned found = occupied1_.Next(begin, begin + static_cast<unsigned>(border - from));
    if (found != occupied1_.kNone) {
      return ((from + (found - begin)) << kBits) + slots_->earliest1[found];
    }
  }
  const Tick begin = from < border ? border : from;
  const unsigned found1 = occupied1_.Next(Slot1(begin), Slot1(border) + kRing2);
  if (found1 != occupied1_.kNone) {
    first = ((begin + (found1 - Slot1(begin))) << kBits) + slots_->earliest1[found1];
  }
  const unsigned ring_start = Slot2(next_super);
  unsigned found2 = occupied2_.Next(ring_start, kRing2);
  if (found2 == occupied2_.kNone) found2 = occupied2_.Next(0, ring_start);
  if (found2 != occupied2_.kNone) {
    const Tick super_due = next_super + ((found2 - ring_start) & kRing2Mask);
    const Tick due = (super_due << 2 * kBits) + slots_->earliest2[found2];
    if (due < first) first = due;
  }
  while (!overflow_.empty()) {
    const DueHeap::Item& top = overflow_.top();
    if (budget == 0 || records_->IsCurrent(top.index, top.stamp)) {
      if (top.due < first) first = top.due;
      break;
    }
    overflow_.Pop();
    entries_--;
    budget--;
  }
  return first;
}

// The first tick of level 0 within the slots [from, end) that has a live timer, or may have one
// when the budget for looking past stale entries is used up.
Tick TimingWheel::FirstInWindow(unsigned from, unsigned end, Tick tick_of_from, unsigned* budget) {
  unsigned slot = from;
  while ((slot = occupied0_.Next(slot, end)) != occupied0_.kNone) {
    if (TrimSlot(slot, budget)) return tick_of_from + (slot - from);
  }
  return kNever;
}

// Drops stale entries at the front of a slot of level 0. Whether anything is left in it.
bool TimingWheel::TrimSlot(unsigned slot, unsigned* budget) {
  for (unsigned lists : {kMoved0, kDirect0}) {
    List& list = slots_->lists[lists + slot];
    while (list.head != kNoChunk) {
      Chunk* chunk = arena_.At(list.head);
      while (chunk->begin < chunk->end) {
        const Entry& entry = chunk->entries[chunk->begin];
        if (*budget == 0 || records_->IsCurrent(entry.index, entry.stamp)) return true;
        chunk->begin++;
        entries_--;
        --*budget;
      }
      PopChunk(&list);
    }
  }
  occupied0_.Clear(slot);
  return false;
}

Tick TimingWheel::QuietUntil() const {
  if (!late_.empty()) return cursor_;
  // Up to the end of the window; the next one may have a slot to empty. Stale entries count as well
  // here.
  Tick quiet = entries_ == 0 ? kNever : (window() + 1) << kBits;
  const Tick end = (cursor_ | kWindowMask) + 1;
  const unsigned from = Slot0(cursor_);
  const unsigned slot = occupied0_.Next(from, from + static_cast<unsigned>(end - cursor_));
  if (slot != occupied0_.kNone) quiet = cursor_ + (slot - from);
  const auto at_most = [&](Tick tick) {
    if (tick < quiet) quiet = tick;
  };
  if (is_sweeping() || slots_->count1[Slot1(window() + 1)] != 0 ||
      slots_->count2[Slot2(super() + 1)] != 0 ||
      (!overflow_.empty() && overflow_.top().due >> 2 * kBits <= super() + 1)) {
    at_most(cursor_ + 1);
  }
  return quiet;
}

}  // namespace millrace

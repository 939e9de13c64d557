// The sweep of stale entries: what cancelled and rescheduled timers leave behind (see
// timing_wheel.h).
//
// It goes through the levels slot by slot and through each list chunk by chunk, drops what is
// stale, fills the room of the chunk before with what is left, and moves chunks to lower pages. It
// can stop after any chunk: what it needs to go on is the slot and the last chunk that is done, and
// that is forgotten (the list is begun again) when the chunk is freed in the meantime. Entries that
// are moved down a level in the meantime can be missed; a timer moves at most three times, so they
// are not missed for long.
#include <cstring>

#include "timing_wheel.h"

namespace millrace {
namespace {

// Stale entries that are tolerated however few timers are live.
constexpr size_t kStaleFloor = 4096;
// What the entries of an empty queue may take at most.
constexpr size_t kEmptyBytes = 6 * ChunkArena::kPageBytes;

// Fetches a chunk, taken to be one of the largest: to ask for more than there is costs little.
void PrefetchWhole(const Chunk* chunk) {
  const char* bytes = reinterpret_cast<const char*>(chunk);
  constexpr size_t kBytesMax = ChunkArena::kUnitBytes << (ChunkArena::kSizeClasses - 1);
  for (size_t at = 0; at < kBytesMax; at += 64) Prefetch(bytes + at);
}

}  // namespace

void TimingWheel::Reclaim(size_t budget) {
  const size_t live = records_->live();
  if (live == 0 && (entries_ > kStaleFloor || arena_.bytes() > kEmptyBytes)) {
    Clear();
    return;
  }
  if (!is_sweeping()) {
    if (!sweep_requested_ && entries_ <= 2 * live + live / 2 + kStaleFloor) return;
    StartSweep();
  }
  while (budget > 0) {
    if (sweep_level_ <= 2) {
      if (!SweepNextList(&budget)) {
        sweep_level_++;
        sweep_slot_ = 0;
        sweep_direct_ = false;
        if (sweep_level_ == 3) sweep_heap_at_ = overflow_.size();
      }
    } else if (SweepHeap(sweep_level_ == 3 ? &overflow_ : &late_, &budget)) {
      if (sweep_level_ == 4) {
        sweep_level_ = kNotSweeping;
        return;
      }
      sweep_level_ = 4;
      sweep_heap_at_ = late_.size();
    }
  }
}

void TimingWheel::StartSweep() {
  sweep_requested_ = false;
  sweep_level_ = 0;
  sweep_slot_ = 0;
  sweep_direct_ = false;
  sweep_previous_ = kNoChunk;
}

// Sweeps on, in the next list of the level that has entries. False if there is none.
bool TimingWheel::SweepNextList(size_t* budget) {
  unsigned slot;
  switch (sweep_level_) {
    case 0: slot = occupied0_.Next(sweep_slot_, kRing); break;
    case 1: slot = occupied1_.Next(sweep_slot_, kRing); break;
    default: slot = occupied2_.Next(sweep_slot_, kRing2); break;
  }
  if (slot == occupied0_.kNone) return false;
  if (slot != sweep_slot_) {
    sweep_slot_ = slot;
    sweep_direct_ = false;
    sweep_previous_ = kNoChunk;
  }
  unsigned list;
  switch (sweep_level_) {
    case 0: list = (sweep_direct_ ? kDirect0 : kMoved0) + slot; break;
    case 1: list = (sweep_direct_ ? kDirect1 : kMoved1) + slot; break;
    default: list = kLevel2 + slot; break;
  }
  if (SweepList(list, budget)) {
    sweep_previous_ = kNoChunk;
    if (sweep_level_ == 2 || sweep_direct_) sweep_slot_++;
    sweep_direct_ = sweep_level_ != 2 && !sweep_direct_;
  }
  return true;
}

// Drops the stale entries of a list and closes the gaps, chunk by chunk. True at the end of the
// list.
bool TimingWheel::SweepList(unsigned list, size_t* budget) {
  List& l = slots_->lists[list];
  size_t dropped = 0;
  if (*budget > 0) --*budget;
  for (;;) {
    const ChunkRef ref = sweep_previous_ == kNoChunk ? l.head : arena_.At(sweep_previous_)->next;
    if (ref == kNoChunk || *budget == 0) {
      AfterSweep(list, dropped);
      return ref == kNoChunk;
    }
    Chunk* chunk = arena_.At(ref);
    const unsigned count = chunk->end - chunk->begin;
    if (chunk->next != kNoChunk) PrefetchWhole(arena_.At(chunk->next));
    *budget = *budget > count ? *budget - count : 0;
    for (unsigned i = chunk->begin; i < chunk->end; i++) {
      records_->Prefetch(chunk->entries[i].index);
    }
    unsigned kept = 0;
    for (unsigned i = chunk->begin; i < chunk->end; i++) {
      const Entry entry = chunk->entries[i];
      if (records_->IsCurrent(entry.index, entry.stamp)) chunk->entries[kept++] = entry;
    }
    dropped += count - kept;
    chunk->begin = 0;
    chunk->end = static_cast<uint8_t>(kept);
    if (sweep_previous_ != kNoChunk) {
      Chunk* previous = arena_.At(sweep_previous_);
      const unsigned room = previous->capacity - previous->end;
      const unsigned moved = room < kept ? room : kept;
      std::memcpy(previous->entries + previous->end, chunk->entries, moved * sizeof(Entry));
      std::memmove(chunk->entries, chunk->entries + moved, (kept - moved) * sizeof(Entry));
      previous->end = static_cast<uint8_t>(previous->end + moved);
      chunk->end = static_cast<uint8_t>(kept - moved);
    }
    if (chunk->end != 0) {
      const ChunkRef kept_as = arena_.Lower(ref);
      if (kept_as != ref) {
        if (sweep_previous_ != kNoChunk) {
          arena_.At(sweep_previous_)->next = kept_as;
        } else {
          l.head = kept_as;
        }
        if (l.tail == ref) l.tail = kept_as;
      }
      sweep_previous_ = kept_as;
      continue;
    }
    if (sweep_previous_ != kNoChunk) {
      arena_.At(sweep_previous_)->next = chunk->next;
    } else {
      l.head = chunk->next;
    }
    if (l.tail == ref) l.tail = sweep_previous_;
    arena_.Free(ref);
  }
}

// Brings the counts and bits of a slot up to date.
void TimingWheel::AfterSweep(unsigned list, size_t dropped) {
  if (dropped == 0) return;
  entries_ -= dropped;
  if (list >= kLevel2) {
    const unsigned slot = list - kLevel2;
    slots_->count2[slot] -= static_cast<uint32_t>(dropped);
    if (slots_->count2[slot] == 0) occupied2_.Clear(slot);
    return;
  }
  const unsigned slot = list & kRingMask;
  if (list >= kMoved1) {
    slots_->count1[slot] -= static_cast<uint32_t>(dropped);
    if (slots_->count1[slot] == 0) occupied1_.Clear(slot);
    return;
  }
  if (slots_->lists[kMoved0 + slot].head == kNoChunk &&
      slots_->lists[kDirect0 + slot].head == kNoChunk) {
    occupied0_.Clear(slot);
  }
}

// Sweeps a heap from its end to its top. True when that is reached. What a removal puts into the
// hole can be an ancestor, which has not been seen yet, so the hole is looked at again.
bool TimingWheel::SweepHeap(DueHeap* heap, size_t* budget) {
  if (sweep_heap_at_ > heap->size()) sweep_heap_at_ = heap->size();
  while (sweep_heap_at_ > 0) {
    if (*budget == 0) return false;
    --*budget;
    const DueHeap::Item& item = heap->at(sweep_heap_at_ - 1);
    if (records_->IsCurrent(item.index, item.stamp)) {
      sweep_heap_at_--;
      continue;
    }
    heap->RemoveAt(sweep_heap_at_ - 1);
    entries_--;
    if (sweep_heap_at_ > heap->size()) sweep_heap_at_ = heap->size();
  }
  return true;
}

// Drops everything at once. REQUIRES: no timer is live.
void TimingWheel::Clear() {
  arena_.Clear();
  overflow_.Clear();
  late_.Clear();
  std::memset(static_cast<void*>(slots_.get()), 0, sizeof(Slots));
  occupied0_ = {};
  occupied1_ = {};
  occupied2_ = {};
  entries_ = 0;
  sweep_level_ = kNotSweeping;
  sweep_previous_ = kNoChunk;
}

}  // namespace millrace

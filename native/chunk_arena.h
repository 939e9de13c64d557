// ChunkArena: memory for the entries of slots, in chunks of 64 to 1024 bytes.
//
// A slot is a list of chunks (an unrolled list), because entries that are written and read in order
// cost a tenth of entries that are linked one by one. The first chunk of a slot is small and each
// further one is twice as large, so a slot with one timer holds 64 bytes and one with a thousand
// wastes little.
//
//   page, 64 KiB, one chunk size:  | chunk | chunk | free | chunk | ... not yet used ... |
//
//   chunk:  [0] u32 next  [4] u8 begin  [5] u8 end  [6] u8 capacity  [7] u8 size class
//           [8] entries, 12 bytes each
//
//   reference to a chunk, 32 bits:  page number (from 1) << 10 | offset / 64;   0 is "none"
//
// Chunks are taken from the lowest page that has room, and a sweep moves what it keeps to lower
// pages (Lower), so that the higher ones become empty. Where pages come from, and when the system gets
// them back, is the matter of ArenaPages.
//
// Thread safety: none; owned by one wheel. Out of memory ends the process, as it does in V8.
#ifndef MILLRACE_NATIVE_CHUNK_ARENA_H_
#define MILLRACE_NATIVE_CHUNK_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "arena_pages.h"

namespace millrace {

// Fetches a cache line that will be written soon.
inline void Prefetch(const void* address) {
#if !defined(_MSC_VER)
  __builtin_prefetch(address, 1);
#else
  (void)address;
#endif
}

using ChunkRef = uint32_t;
constexpr ChunkRef kNoChunk = 0;

struct Entry {
  uint32_t index;   // of the timer's record
  uint32_t stamp;   // the scheduling that this entry stands for; stale when the record has another
  uint32_t offset;  // due tick, relative to the start of the slot it was first put into
};

struct Chunk {
  ChunkRef next;
  uint8_t begin;  // first entry not yet taken
  uint8_t end;
  uint8_t capacity;
  uint8_t size_class;
  Entry entries[1];  // really `capacity`
};

class ChunkArena {
 public:
  static constexpr unsigned kSizeClasses = 5;
  static constexpr size_t kPageBytes = ArenaPages::kPageBytes;
  static constexpr size_t kUnitBytes = 64;

  ChunkArena();
  ChunkArena(const ChunkArena&) = delete;
  ChunkArena& operator=(const ChunkArena&) = delete;

  // Entries in a chunk of a size class: 4, 10, 20, 42, 84.
  static constexpr unsigned Capacity(unsigned size_class) {
    return static_cast<unsigned>(((kUnitBytes << size_class) - offsetof(Chunk, entries)) /
                                 sizeof(Entry));
  }

  // An empty chunk of 64 << size_class bytes.
  ChunkRef Allocate(unsigned size_class);
  void Free(ChunkRef ref);
  // Moves a chunk to a lower page if one has room. Returns where it is now; links to it are the
  // caller's to mend.
  ChunkRef Lower(ChunkRef ref);
  // Frees every chunk at once.
  void Clear();

  // REQUIRES: ref is not kNoChunk and not freed. The address stays the same until it is.
  Chunk* At(ChunkRef ref) const {
    return reinterpret_cast<Chunk*>(bases_[ref >> kUnitBits] +
                                    static_cast<size_t>(ref & kUnitMask) * kUnitBytes);
  }

  // Bytes taken from the system, free pages included.
  size_t bytes() const;

 private:
  static constexpr unsigned kUnitBits = 10;
  static constexpr uint32_t kUnitMask = (1u << kUnitBits) - 1;
  struct Page {
    ChunkRef free_head;  // freed chunks, linked through Chunk::next
    uint16_t used;       // chunks in use
    uint16_t fresh;      // chunks ever handed out; those from here on are untouched
    uint16_t capacity;
    uint8_t size_class;
  };

  // The pages of a size class that have room, a bit for each number.
  struct Room {
    std::vector<uint64_t> words;
    size_t first = 0;  // no word before this one has a bit
  };

  uint32_t LowestWithRoom(unsigned size_class);
  uint32_t OpenPage(unsigned size_class);
  void ClosePage(uint32_t number);
  void SetRoom(uint32_t number);
  void ClearRoom(uint32_t number);

  ArenaPages source_;
  std::vector<char*> bases_;  // by page number; null when the number is unused
  std::vector<Page> pages_;
  Room room_[kSizeClasses];
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_CHUNK_ARENA_H_

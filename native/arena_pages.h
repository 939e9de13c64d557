// ArenaPages: the pages of a ChunkArena, numbered from 1, out of blocks that the system gives and
// takes back as wholes.
//
//   block    0 .. 19      5 pages each, 320 KiB     a page for each size of chunks
//            20 ..        32 pages each, 2 MiB      huge pages, where the system has them
//
// Both sizes are about what the kernel does per call. Giving back a page by itself drops the
// processor's translations each time (75 us for 64 KiB on a virtual machine, 11 us for each 64 KiB
// of a block), and the first write to 4 KiB of new memory costs up to 13 us there, 0.45 us in a huge
// page. Numbers stay with their block, so that lower pages are lower blocks: who moves what it keeps
// to lower pages empties the higher blocks.
//
// Thread safety: none; owned by one arena.
#ifndef MILLRACE_NATIVE_ARENA_PAGES_H_
#define MILLRACE_NATIVE_ARENA_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace millrace {

class ArenaPages {
 public:
  static constexpr size_t kPageBytes = 64 * 1024;
  static constexpr uint32_t kSmallBlockPages = 5;
  static constexpr uint32_t kSmallBlocks = 20;
  static constexpr uint32_t kHugeBlockPages = 32;

  ArenaPages() = default;
  ~ArenaPages();
  ArenaPages(const ArenaPages&) = delete;
  ArenaPages& operator=(const ArenaPages&) = delete;

  // The lowest free page; its memory is AddressOf(it), of any content.
  uint32_t Take();
  // Gives it back, and perhaps one block to the system.
  void Return(uint32_t number);
  // Gives back every page, and every block but the first.
  void ReturnAll();

  // REQUIRES: taken.
  char* AddressOf(uint32_t number) const;

  uint32_t taken() const { return taken_; }
  // Bytes taken from the system.
  size_t bytes() const;

 private:
  // Free pages that are kept: a few, and a share of those in use.
  static constexpr uint32_t kSparePagesMin = 2;
  static constexpr uint32_t kSpareShare = 8;

  struct Block {
    char* base;     // null: the system has it
    uint32_t free;  // a bit for each page that is not taken
  };

  static uint32_t BlockOf(uint32_t number);
  static uint32_t FirstPage(uint32_t block);
  static uint32_t PagesOf(uint32_t block) {
    return block < kSmallBlocks ? kSmallBlockPages : kHugeBlockPages;
  }
  static uint32_t AllFree(uint32_t block) {
    return PagesOf(block) == 32 ? ~0u : (1u << PagesOf(block)) - 1;
  }

  bool IsWhole(uint32_t block) const {
    return blocks_[block].base != nullptr && blocks_[block].free == AllFree(block);
  }
  void Map(uint32_t block);
  void Unmap(uint32_t block);
  void UnmapOneBeyond(uint32_t keep);

  std::vector<Block> blocks_;
  uint32_t first_ = 0;  // no block before this one has a free page
  uint32_t taken_ = 0;
  uint32_t free_ = 0;   // pages of mapped blocks
  uint32_t whole_ = 0;  // mapped blocks with no page taken
};

}  // namespace millrace

#endif  // MILLRACE_NATIVE_ARENA_PAGES_H_

#include "arena_pages.h"

#include "occupancy.h"
#include "system_memory.h"

namespace millrace {

static_assert(ArenaPages::kHugeBlockPages * ArenaPages::kPageBytes == kHugePageBytes,
              "a huge block is a huge page");

ArenaPages::~ArenaPages() {
  for (uint32_t block = 0; block < blocks_.size(); block++) {
    if (blocks_[block].base != nullptr) SystemFree(blocks_[block].base, PagesOf(block) * kPageBytes);
  }
}

uint32_t ArenaPages::Take() {
  while (first_ < blocks_.size() && blocks_[first_].free == 0) first_++;
  if (first_ == blocks_.size()) {
    // No block has a free page: the lowest of those that the system has.
    uint32_t block = 0;
    while (block < blocks_.size() && blocks_[block].base != nullptr) block++;
    Map(block);
  }
  Block& block = blocks_[first_];
  if (block.free == AllFree(first_)) whole_--;
  const uint32_t at = CountTrailingZeros(block.free);
  block.free &= block.free - 1;
  taken_++;
  free_--;
  return FirstPage(first_) + at;
}

void ArenaPages::Return(uint32_t number) {
  const uint32_t block = BlockOf(number);
  blocks_[block].free |= 1u << (number - FirstPage(block));
  if (block < first_) first_ = block;
  taken_--;
  free_++;
  if (blocks_[block].free == AllFree(block)) whole_++;
  UnmapOneBeyond(kSparePagesMin + taken_ / kSpareShare);
}

void ArenaPages::ReturnAll() {
  for (uint32_t block = 1; block < blocks_.size(); block++) {
    if (blocks_[block].base != nullptr) SystemFree(blocks_[block].base, PagesOf(block) * kPageBytes);
  }
  if (!blocks_.empty()) {
    Block first = blocks_[0];
    first.free = first.base == nullptr ? 0 : AllFree(0);
    blocks_.assign(1, first);
    blocks_.shrink_to_fit();
    whole_ = first.base == nullptr ? 0 : 1;
  }
  first_ = 0;
  taken_ = 0;
  free_ = whole_ * kSmallBlockPages;
}

char* ArenaPages::AddressOf(uint32_t number) const {
  const uint32_t block = BlockOf(number);
  return blocks_[block].base + size_t{number - FirstPage(block)} * kPageBytes;
}

size_t ArenaPages::bytes() const {
  return size_t{taken_ + free_} * kPageBytes + blocks_.capacity() * sizeof(Block);
}

uint32_t ArenaPages::BlockOf(uint32_t number) {
  const uint32_t at = number - 1;
  constexpr uint32_t kSmallPages = kSmallBlocks * kSmallBlockPages;
  return at < kSmallPages ? at / kSmallBlockPages
                          : kSmallBlocks + (at - kSmallPages) / kHugeBlockPages;
}

uint32_t ArenaPages::FirstPage(uint32_t block) {
  return block <= kSmallBlocks
             ? 1 + block * kSmallBlockPages
             : 1 + kSmallBlocks * kSmallBlockPages + (block - kSmallBlocks) * kHugeBlockPages;
}

void ArenaPages::Map(uint32_t number) {
  if (number == blocks_.size()) blocks_.push_back(Block{nullptr, 0});
  Block& block = blocks_[number];
  const size_t bytes = PagesOf(number) * kPageBytes;
  constexpr const char* kPurpose = "pending timers";
  if (number >= kSmallBlocks) {
    block.base = static_cast<char*>(SystemAllocateHuge(bytes, kPurpose));
  } else {
    // Much of the first ones may stay untouched for ever.
    block.base = static_cast<char*>(SystemAllocate(bytes, number >= 2, kPurpose));
  }
  block.free = AllFree(number);
  free_ += PagesOf(number);
  whole_++;
  first_ = number;
}

void ArenaPages::Unmap(uint32_t number) {
  SystemFree(blocks_[number].base, PagesOf(number) * kPageBytes);
  blocks_[number] = Block{nullptr, 0};
  free_ -= PagesOf(number);
  whole_--;
}

// The highest block that is free as a whole goes, if `keep` free pages are left without it: a crowd
// that comes and goes across the border of a block does not go to the system each time.
void ArenaPages::UnmapOneBeyond(uint32_t keep) {
  if (whole_ == 0 || free_ < keep + kSmallBlockPages) return;
  auto block = static_cast<uint32_t>(blocks_.size());
  while (!IsWhole(--block)) {
  }
  if (free_ < keep + PagesOf(block)) return;
  Unmap(block);
  while (!blocks_.empty() && blocks_.back().base == nullptr) blocks_.pop_back();
  if (first_ > blocks_.size()) first_ = static_cast<uint32_t>(blocks_.size());
}

}  // namespace millrace

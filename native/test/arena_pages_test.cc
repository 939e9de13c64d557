// Unit tests of the pages that chunks of entries come from: which one is next, and when the system
// gets memory back.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "../arena_pages.h"
#include "../system_memory.h"

namespace millrace {
namespace {

constexpr uint32_t kSmallPages = ArenaPages::kSmallBlocks * ArenaPages::kSmallBlockPages;
constexpr size_t kSmallBytes = ArenaPages::kSmallBlockPages * ArenaPages::kPageBytes;
// The table of blocks counts too, and is far smaller than a page.
constexpr size_t kTableBytes = ArenaPages::kPageBytes;

// Takes pages 1 to `count`.
void TakeAll(ArenaPages* pages, uint32_t count) {
  for (uint32_t number = 1; number <= count; number++) REQUIRE(pages->Take() == number);
}

size_t PagesHeld(const ArenaPages& pages) { return pages.bytes() / ArenaPages::kPageBytes; }

TEST_CASE("the lowest free page is taken first, and no two share memory") {
  ArenaPages pages;
  constexpr uint32_t kCount = kSmallPages + 3 * ArenaPages::kHugeBlockPages;
  TakeAll(&pages, kCount);
  CHECK(pages.taken() == kCount);
  for (uint32_t number = 1; number <= kCount; number++) {
    std::memset(pages.AddressOf(number), static_cast<int>(number), ArenaPages::kPageBytes);
  }
  for (uint32_t number = 1; number <= kCount; number++) {
    const char* page = pages.AddressOf(number);
    CHECK(page[0] == static_cast<char>(number));
    CHECK(page[ArenaPages::kPageBytes - 1] == static_cast<char>(number));
  }
  for (uint32_t number : {77u, 3u, 41u}) pages.Return(number);
  for (uint32_t number : {3u, 41u, 77u}) CHECK(pages.Take() == number);
  CHECK(pages.Take() == kCount + 1);
}

TEST_CASE("few pages take little memory, many come in blocks that can be huge pages") {
  ArenaPages pages;
  CHECK(pages.bytes() == 0);
  TakeAll(&pages, 1);
  CHECK(pages.bytes() < kSmallBytes + kTableBytes);
  for (uint32_t number = 2; number <= kSmallPages; number++) pages.Take();
  CHECK(pages.bytes() < ArenaPages::kSmallBlocks * kSmallBytes + kTableBytes);
  const uint32_t first_of_huge = pages.Take();
  CHECK(reinterpret_cast<uintptr_t>(pages.AddressOf(first_of_huge)) % kHugePageBytes == 0);
  CHECK(PagesHeld(pages) == kSmallPages + ArenaPages::kHugeBlockPages);
}

TEST_CASE("a block goes back whole, when its last page is free and enough others are") {
  ArenaPages pages;
  constexpr uint32_t kHuge = ArenaPages::kHugeBlockPages;
  TakeAll(&pages, kSmallPages + 2 * kHuge);
  const size_t full = PagesHeld(pages);
  // The upper huge block but for one page: nothing goes.
  for (uint32_t i = 0; i < kHuge - 1; i++) pages.Return(kSmallPages + 2 * kHuge - i);
  CHECK(PagesHeld(pages) == full);
  // Its last one: it would go, but then too few free pages would be left.
  pages.Return(kSmallPages + kHuge + 1);
  CHECK(PagesHeld(pages) == full);
  // A tenth of the rest is free besides: it goes, as one.
  for (uint32_t i = 0; i < 17; i++) pages.Return(1 + i);
  CHECK(PagesHeld(pages) == full - kHuge);
}

TEST_CASE("who comes and goes across the border of a block does not go to the system each time") {
  for (const uint32_t border : {kSmallPages, kSmallPages + ArenaPages::kHugeBlockPages}) {
    ArenaPages pages;
    TakeAll(&pages, border);
    pages.Take();
    const size_t held = pages.bytes();
    for (int i = 0; i < 100; i++) {
      pages.Return(border + 1);
      CHECK(pages.bytes() == held);
      CHECK(pages.Take() == border + 1);
    }
  }
}

TEST_CASE("free memory stays a share of what is in use, in whatever order pages are given back") {
  std::mt19937 random(7);
  ArenaPages pages;
  std::vector<uint32_t> taken;
  for (uint32_t i = 0; i < 600; i++) taken.push_back(pages.Take());
  std::set<uint32_t> distinct(taken.begin(), taken.end());
  CHECK(distinct.size() == taken.size());
  while (!taken.empty()) {
    std::swap(taken.back(), taken[random() % taken.size()]);
    pages.Return(taken.back());
    taken.pop_back();
  }
  CHECK(pages.taken() == 0);
  CHECK(PagesHeld(pages) <= 2 + ArenaPages::kHugeBlockPages);
  // From the top, as after a sweep.
  ArenaPages swept;
  TakeAll(&swept, 600);
  for (uint32_t number = 600; number > 0; number--) {
    swept.Return(number);
    const uint32_t in_use = number - 1;
    CHECK(PagesHeld(swept) <= in_use + 2 + in_use / 8 + ArenaPages::kHugeBlockPages);
  }
  CHECK(PagesHeld(swept) <= 2 + ArenaPages::kSmallBlockPages);
}

TEST_CASE("when all pages are given back at once, the first block stays and numbers start again") {
  ArenaPages pages;
  TakeAll(&pages, kSmallPages + 40);
  pages.ReturnAll();
  CHECK(pages.taken() == 0);
  CHECK(PagesHeld(pages) == ArenaPages::kSmallBlockPages);
  TakeAll(&pages, kSmallPages + 40);
  ArenaPages unused;
  unused.ReturnAll();
  CHECK(unused.bytes() == 0);
  CHECK(unused.Take() == 1);
}

}  // namespace
}  // namespace millrace

// Unit and model tests of the timing wheel and its parts, with the invariants checked along the
// way.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "../arena_pages.h"
#include "../chunk_arena.h"
#include "../due_heap.h"
#include "../occupancy.h"
#include "wheel_driver.h"

namespace millrace {
namespace {

constexpr Tick kWindow = Tick{1} << 12;
// What an arena with nothing in it keeps of the system's memory: a block, and the list of blocks.
constexpr size_t kKeptBytes = ArenaPages::kSmallBlockPages * ArenaPages::kPageBytes + 4 * 1024;
constexpr Tick kSuper = Tick{1} << 24;
constexpr Tick kFar = Tick{1} << 36;

TEST_CASE("an occupancy bitmap finds the next slot, within the range asked for") {
  Occupancy<8192> occupied;
  CHECK(occupied.Next(0, 8192) == occupied.kNone);
  for (unsigned slot : {0u, 63u, 64u, 4095u, 4096u, 8191u}) occupied.Set(slot);
  CHECK(occupied.Next(0, 8192) == 0);
  CHECK(occupied.Next(1, 8192) == 63);
  CHECK(occupied.Next(64, 8192) == 64);
  CHECK(occupied.Next(65, 8192) == 4095);
  CHECK(occupied.Next(65, 4095) == occupied.kNone);
  CHECK(occupied.Next(4096, 8192) == 4096);
  CHECK(occupied.Next(4097, 8192) == 8191);
  CHECK(occupied.Next(8192, 8192) == occupied.kNone);
  occupied.Clear(8191);
  CHECK(occupied.Next(4097, 8192) == occupied.kNone);
  CHECK(occupied.Has(4096));
  CHECK(!occupied.Has(8191));
}

TEST_CASE("a due heap gives items by (due, order), also after removals from the middle") {
  std::mt19937 random(1);
  for (int round = 0; round < 50; round++) {
    DueHeap heap;
    for (uint64_t i = 0; i < 3000; i++) heap.Push({static_cast<int64_t>(random() % 100), i, 0, 0});
    for (int i = 0; i < 500; i++) heap.RemoveAt(random() % heap.size());
    CHECK(heap.size() == 2500);
    int64_t due = -1;
    uint64_t order = 0;
    while (!heap.empty()) {
      const DueHeap::Item top = heap.top();
      heap.Pop();
      CHECK((top.due > due || (top.due == due && top.order > order)));
      due = top.due;
      order = top.order;
    }
    CHECK(heap.bytes() == 0);
  }
}

TEST_CASE("an arena gives distinct chunks of every size and all pages back") {
  ChunkArena arena;
  const size_t empty = arena.bytes();
  std::mt19937 random(2);
  std::vector<ChunkRef> refs;
  for (int i = 0; i < 20000; i++) {
    const unsigned size_class = random() % ChunkArena::kSizeClasses;
    const ChunkRef ref = arena.Allocate(size_class);
    REQUIRE(ref != kNoChunk);
    Chunk* chunk = arena.At(ref);
    CHECK(chunk->capacity == ChunkArena::Capacity(size_class));
    chunk->entries[chunk->capacity - 1].stamp = ref;
    refs.push_back(ref);
  }
  for (ChunkRef ref : refs) {
    const Chunk* chunk = arena.At(ref);
    CHECK(chunk->entries[chunk->capacity - 1].stamp == ref);
  }
  for (size_t i = refs.size(); i > 0; i--) {
    std::swap(refs[i - 1], refs[random() % i]);
    arena.Free(refs[i - 1]);
  }
  CHECK(arena.bytes() < empty + kKeptBytes);
}

TEST_CASE("moving chunks to lower pages empties the higher ones") {
  ChunkArena arena;
  std::vector<ChunkRef> refs;
  for (int i = 0; i < 64 * 100; i++) refs.push_back(arena.Allocate(4));
  const size_t full = arena.bytes();
  std::vector<ChunkRef> kept;
  for (size_t i = 0; i < refs.size(); i++) {
    if (i % 10 == 0) {
      arena.At(refs[i])->entries[83].index = static_cast<uint32_t>(i);
      kept.push_back(refs[i]);
    } else {
      arena.Free(refs[i]);
    }
  }
  CHECK(arena.bytes() == full);
  for (size_t i = kept.size(); i > 0; i--) kept[i - 1] = arena.Lower(kept[i - 1]);
  CHECK(arena.bytes() < full / 5);
  for (size_t i = 0; i < kept.size(); i++) CHECK(arena.At(kept[i])->entries[83].index == i * 10);
}

TEST_CASE("a generation is used once; a record without any left is retired, and a chunk too") {
  TimerRecords::Counters counters = {};
  TimerRecords records(&counters);
  auto words = std::make_unique<int32_t[]>(TimerRecords::kChunkWords);
  records.StartGenerationsAt(0, TimerRecords::kGenerationMax - 1);
  REQUIRE(records.Attach(0, words.get()));
  // Two generations for each record of the chunk, then none.
  const size_t per_round = TimerRecords::kChunkRecords - TimerRecords::kFirstRecord;
  std::vector<uint64_t> handles;
  for (size_t i = 0; i < 2 * per_round; i++) {
    REQUIRE(records.HasRoom(0));
    handles.push_back(records.Allocate(0, 0, 1));
    CHECK(handles.back() < uint64_t{1} << 53);
    records.Cancel(handles.back());
  }
  CHECK(!records.HasRoom(0));
  std::sort(handles.begin(), handles.end());
  CHECK(std::unique(handles.begin(), handles.end()) == handles.end());
  for (uint64_t handle : handles) CHECK(records.Find(handle) == nullptr);
  CHECK(counters.live == 0);
  records.Detach(0);
  auto again = std::make_unique<int32_t[]>(TimerRecords::kChunkWords);
  CHECK(!records.Attach(0, again.get()));
}

TEST_CASE("a chunk that comes back goes on above the generations it gave out") {
  TimerRecords::Counters counters = {};
  TimerRecords records(&counters);
  auto words = std::make_unique<int32_t[]>(TimerRecords::kChunkWords);
  records.Attach(0, words.get());
  const uint64_t first = records.Allocate(0, 0, 1);
  records.Cancel(first);
  records.Detach(0);
  auto again = std::make_unique<int32_t[]>(TimerRecords::kChunkWords);
  REQUIRE(records.Attach(0, again.get()));
  CHECK(records.Find(first) == nullptr);
  const uint64_t second = records.Allocate(0, 0, 2);
  CHECK(second != first);
  CHECK(records.Find(first) == nullptr);
  CHECK(records.Find(second) != nullptr);
}

TEST_CASE("every edge of every level, from clocks near powers of two") {
  const Tick starts[] = {0,
                         4095,
                         kSuper - 1,
                         kSuper - 4097,
                         kFar - 1,
                         kFar - kSuper,
                         (Tick{1} << 31) - 5,
                         (Tick{1} << 32) - 1,
                         kFar - 4097,
                         (Tick{1} << 40) - 1};
  const Tick edges[] = {0,          1,    kWindow,      2 * kWindow, kSuper, kSuper - kWindow,
                        2 * kSuper, kFar, kFar + kSuper};
  for (Tick start : starts) {
    WheelDriver driver(start);
    for (Tick edge : edges) {
      for (Tick by : {-1, 0, 1}) {
        driver.Schedule(start + edge + by);
        driver.Schedule(((start + edge) & ~(kWindow - 1)) + by);
        driver.Schedule(((start + edge) & ~(kSuper - 1)) + by);
      }
    }
    REQUIRE(driver.wheel().Check());
    while (driver.pending() > 0) {
      const Tick next = driver.wheel().NextDue();
      CHECK(next == driver.earliest());
      const Tick now = next > driver.now() ? next : driver.now();
      if (now > driver.now()) CHECK(driver.Advance(now - 1, 1));
      CHECK(driver.Advance(now, 2));
      REQUIRE(driver.wheel().Check());
    }
  }
}

TEST_CASE("in the last window of a super-window the next one's coarse slot is already empty") {
  // One step at a time so that pacing has its way, and one jump, so that it has not.
  for (Tick step : {Tick{1000}, kSuper}) {
    WheelDriver driver(0);
    for (int i = 0; i < 5000; i++) driver.Schedule(2 * kSuper + i * 3);
    // Into the last window before, then a timer that goes directly into level 0 of the next
    // super-window.
    for (Tick now = 0; now < 2 * kSuper - kWindow; now += step) REQUIRE(driver.Advance(now, 10));
    REQUIRE(driver.Advance(2 * kSuper - 100, 10));
    driver.Schedule(2 * kSuper + 50);
    REQUIRE(driver.wheel().Check());
    CHECK(driver.wheel().NextDue() == 2 * kSuper);
    REQUIRE(driver.Advance(2 * kSuper + 20000, 10000));
    CHECK(driver.pending() == 0);
  }
}

TEST_CASE("no tick moves more than its share, and quiet time is told from busy time") {
  TimerRecords::Counters counters = {};
  TimerRecords records(&counters);
  TimingWheel wheel(0, &records);
  std::vector<std::unique_ptr<int32_t[]>> memory;
  constexpr size_t kTimers = 1000 * 1000;
  uint32_t stamp = 0;
  for (size_t i = 0; i < kTimers; i++) {
    const uint32_t number = static_cast<uint32_t>(memory.size());
    if (memory.empty() || !records.HasRoom(number - 1)) {
      memory.push_back(std::make_unique<int32_t[]>(TimerRecords::kChunkWords));
      records.Attach(number, memory.back().get());
    }
    const uint64_t handle = records.Allocate(static_cast<uint32_t>(memory.size()) - 1, 0, ++stamp);
    // All in window 5.
    wheel.Insert(5 * kWindow + static_cast<Tick>(i % kWindow),
                 static_cast<uint32_t>(handle) & ((1u << TimerRecords::kIndexBits) - 1), stamp);
  }
  CHECK(wheel.QuietUntil() <= kWindow);
  std::vector<uint32_t> out(kTimers);
  uint64_t moved = 0;
  for (Tick now = 1; now < 5 * kWindow; now++) {
    CHECK(wheel.Advance(now, out.data(), out.size()) == 0);
    CHECK(wheel.moved() - moved <= kTimers / kWindow + 1);
    moved = wheel.moved();
  }
  // All but the share of the tick that enters the window.
  CHECK(moved >= kTimers - kTimers / kWindow - 1);
  size_t fired = 0;
  for (Tick now = 5 * kWindow; now < 6 * kWindow; now++) {
    fired += wheel.Advance(now, out.data(), out.size());
  }
  CHECK(fired == kTimers);
  CHECK(wheel.moved() == kTimers);
}

TEST_CASE("a sweep in steps drops all stale entries and no live one, while time goes on") {
  for (uint32_t seed = 0; seed < 20; seed++) {
    std::mt19937 random(seed);
    WheelDriver driver(0);
    std::vector<uint64_t> handles;
    const Tick spans[] = {5000, 20000, 3 * kSuper, 3 * kFar};
    for (int i = 0; i < 4000; i++) {
      handles.push_back(driver.Schedule(static_cast<Tick>(random()) * random() % spans[i % 4]));
    }
    for (size_t i = 0; i < handles.size(); i++) {
      if (random() % 10 != 0) CHECK(driver.Cancel(handles[i]));
    }
    driver.wheel().RequestSweep();
    Tick now = 0;
    do {
      driver.wheel().Reclaim(50);
      REQUIRE(driver.wheel().Check());
      if (random() % 4 == 0) {
        REQUIRE(driver.Advance(now += random() % 300, 100));
        driver.Schedule(now + static_cast<Tick>(random() % 9000));
      }
    } while (driver.wheel().is_sweeping());
    // What was moved down during the sweep can have been missed; nothing else.
    CHECK(driver.wheel().entries() < driver.pending() + 1200);
    driver.wheel().RequestSweep();
    driver.wheel().Reclaim(1000 * 1000);
    CHECK(driver.wheel().entries() == driver.pending());
    REQUIRE(driver.wheel().Check());
    while (driver.pending() > 0) {
      now = driver.wheel().NextDue() > now ? driver.wheel().NextDue() : now;
      REQUIRE(driver.Advance(now, 64));
    }
  }
}

TEST_CASE("when nothing is left alive, everything goes at once, and the wheel works on") {
  WheelDriver driver(100);
  const size_t empty = driver.wheel().bytes();
  std::vector<uint64_t> handles;
  for (Tick i = 0; i < 30000; i++) handles.push_back(driver.Schedule(i * i * i / 100));
  for (uint64_t handle : handles) CHECK(driver.Cancel(handle));
  driver.ReleaseRecords();
  driver.wheel().Reclaim(1);
  CHECK(driver.wheel().entries() == 0);
  CHECK(driver.wheel().bytes() < empty + kKeptBytes);
  REQUIRE(driver.wheel().Check());
  for (Tick i = 0; i < 300; i++) driver.Schedule(i * i * i);
  while (driver.pending() > 0) {
    const Tick next = driver.wheel().NextDue();
    REQUIRE(driver.Advance(next > driver.now() ? next : driver.now(), 7));
  }
  REQUIRE(driver.wheel().Check());
}

TEST_CASE("any sequence of operations gives what a sorted map gives") {
  const Tick starts[] = {0, kSuper - 5000, (Tick{1} << 32) - 10, kFar - kSuper - 1, Tick{1} << 40};
  for (uint32_t seed = 0; seed < 60; seed++) {
    std::mt19937_64 random(seed);
    WheelDriver driver(starts[seed % 5]);
    std::vector<uint64_t> handles = {0, 1, ~uint64_t{0} >> 11};
    const auto distance = [&]() -> Tick {
      const Tick spans[] = {4, 3000, 9000, 70000, 2 * kSuper, 2 * kFar};
      return static_cast<Tick>(random() % spans[random() % 6]) - 2;
    };
    for (int step = 0; step < 1500; step++) {
      const Tick now = driver.now();
      switch (random() % 9) {
        case 0:
        case 1:
        case 2:
        case 3: handles.push_back(driver.Schedule(now + distance())); break;
        case 4: REQUIRE(driver.Cancel(handles[random() % handles.size()])); break;
        case 5:
          REQUIRE(driver.Reschedule(handles[random() % handles.size()], now + distance()));
          break;
        case 6:
          REQUIRE(driver.Advance(now + distance() / (random() % 50 + 1), random() % 20));
          break;
        case 7: driver.wheel().Reclaim(random() % 100); break;
        default:
          if (random() % 8 == 0) driver.wheel().RequestSweep();
          if (random() % 20 == 0) driver.ReleaseRecords();
      }
      if (step % 10 == 0) REQUIRE(driver.wheel().Check());
      CHECK(driver.wheel().NextDue() <= driver.earliest());
      CHECK(driver.wheel().QuietUntil() <= std::max(driver.earliest(), driver.now()));
    }
  }
}

}  // namespace
}  // namespace millrace

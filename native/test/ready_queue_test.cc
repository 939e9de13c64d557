// Unit and model tests of the ready queue and its parts, with the invariants checked along the way.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "../hash_index.h"
#include "../id_heap.h"
#include "../string_interner.h"
#include "ready_queue_driver.h"

namespace millrace {
namespace {

TEST_CASE("a hash index finds what is in it, also after removals that close gaps") {
  std::mt19937 random(1);
  HashIndex index;
  std::vector<uint32_t> hashes(2000);
  std::vector<bool> in(hashes.size(), false);
  // Few different hashes, so that runs are long and wrap around.
  for (uint32_t& hash : hashes) hash = random() % 97 * 0x9e3779b9u;
  for (int round = 0; round < 20000; round++) {
    const uint32_t i = static_cast<uint32_t>(random() % hashes.size());
    const auto is_it = [&](uint32_t number) { return number == i; };
    CHECK((index.Find(hashes[i], is_it) == i) == in[i]);
    if (in[i]) {
      index.Erase(hashes[i], i);
    } else {
      index.Insert(hashes[i], i);
    }
    in[i] = !in[i];
  }
  CHECK(index.size() == static_cast<size_t>(std::count(in.begin(), in.end(), true)));
}

TEST_CASE("an interner forgets a string with its last reference, and gives its number to another") {
  StringInterner strings;
  const uint32_t a = strings.Acquire("acme", 4);
  CHECK(strings.Acquire("acme", 4) == a);
  const uint32_t empty = strings.Acquire("", 0);
  CHECK(empty != a);
  CHECK(strings.Text(a) == "acme");
  CHECK(!strings.Release(a));
  CHECK(strings.Find("acme", 4) == a);
  CHECK(strings.Release(a));
  CHECK(strings.Find("acme", 4) == HashIndex::kNone);
  CHECK(strings.Acquire("zoo", 3) == a);
  CHECK(strings.size() == 2);
}

TEST_CASE("a heap of ids gives them in order after moves and removals anywhere") {
  std::mt19937 random(2);
  std::vector<uint32_t> keys(300);
  std::vector<uint32_t> at(keys.size());
  IdHeap heap;
  const auto before = [&](uint32_t a, uint32_t b) { return keys[a] < keys[b]; };
  const auto moved = [&](uint32_t id, uint32_t place) { at[id] = place; };
  for (uint32_t id = 0; id < keys.size(); id++) {
    keys[id] = static_cast<uint32_t>(random() % 100);
    heap.Push(id, before, moved);
  }
  for (int i = 0; i < 1000; i++) {
    const auto id = static_cast<uint32_t>(random() % keys.size());
    keys[id] = static_cast<uint32_t>(random() % 100);
    heap.Update(at[id], before, moved);
  }
  for (uint32_t id = 0; id < 50; id++) heap.Remove(at[id], before, moved);
  uint32_t last = 0;
  while (!heap.empty()) {
    CHECK(keys[heap.top()] >= last);
    last = keys[heap.top()];
    heap.Remove(0, before, moved);
  }
}

std::vector<uint32_t> TakeAll(ReadyQueue* queue) {
  std::vector<uint32_t> tokens;
  ReadyQueue::Head head;
  while (queue->Peek(&head)) {
    tokens.push_back(head.token);
    queue->Take(head);
    queue->Release(head.type);
  }
  return tokens;
}

TEST_CASE("higher priorities go first, and within one the first to come") {
  ReadyQueue queue(0);
  queue.AddType(ReadyQueue::kNoLimit);
  const int16_t priorities[] = {0, 5, -32768, 5, 0, 32767};
  for (uint32_t i = 0; i < 6; i++) queue.Push(0, priorities[i], 0, i, 0);
  CHECK(TakeAll(&queue) == std::vector<uint32_t>{5, 1, 3, 0, 4, 2});
  CHECK(queue.Check());
}

TEST_CASE("a tenant with a thousand tasks does not keep one with two waiting") {
  ReadyQueue queue(0);
  queue.AddType(ReadyQueue::kNoLimit);
  for (uint32_t i = 0; i < 1000; i++) queue.Push(0, 0, 1, i, 0);
  queue.Push(0, 0, 2, 5000, 0);
  queue.Push(0, 0, 2, 5001, 0);
  const auto tokens = TakeAll(&queue);
  CHECK(std::find(tokens.begin(), tokens.end(), 5000u) - tokens.begin() == 1);
  CHECK(std::find(tokens.begin(), tokens.end(), 5001u) - tokens.begin() == 3);
}

TEST_CASE("tenants get shares by weight, and a new weight counts at once") {
  ReadyQueue queue(0);
  queue.AddType(ReadyQueue::kNoLimit);
  queue.SetWeight(1, 4);
  for (uint32_t i = 0; i < 1000; i++) {
    queue.Push(0, 0, 1, 1, 0);
    queue.Push(0, 0, 2, 2, 0);
  }
  const auto share = [&](size_t count) {
    size_t of_first = 0;
    ReadyQueue::Head head;
    for (size_t i = 0; i < count; i++) {
      queue.Peek(&head);
      of_first += head.token == 1;
      queue.Take(head);
      queue.Release(head.type);
    }
    return of_first;
  };
  CHECK(share(500) == 400);
  queue.SetWeight(1, 0.25);
  CHECK(share(500) == 100);
}

TEST_CASE("a tenant's share counts over all its types") {
  ReadyQueue queue(0);
  queue.AddType(ReadyQueue::kNoLimit);
  queue.AddType(ReadyQueue::kNoLimit);
  for (uint32_t i = 0; i < 100; i++) {
    queue.Push(0, 0, 1, 10, 0);
    queue.Push(1, 0, 1, 11, 0);
    queue.Push(0, 0, 2, 20, 0);
  }
  auto tokens = TakeAll(&queue);
  tokens.resize(100);
  CHECK(std::count(tokens.begin(), tokens.end(), 20u) == 50);
}

TEST_CASE("a type at its limit is passed over, and its turn is not lost") {
  ReadyQueue queue(0);
  queue.AddType(1);
  queue.AddType(ReadyQueue::kNoLimit);
  queue.Push(0, 9, 0, 1, 0);
  queue.Push(0, 9, 0, 2, 0);
  queue.Push(1, 0, 0, 3, 0);
  ReadyQueue::Head head;
  REQUIRE(queue.Peek(&head));
  CHECK(head.token == 1);
  queue.Take(head);
  REQUIRE(queue.Peek(&head));
  CHECK(head.token == 3);
  CHECK(queue.Takeable(10) == 1);
  queue.Release(0);
  REQUIRE(queue.Peek(&head));
  CHECK(head.token == 2);
}

TEST_CASE("age overtakes priority by one level per ageing time, and helps the old task only") {
  ReadyQueue queue(8000);
  queue.AddType(ReadyQueue::kNoLimit);
  queue.Push(0, 0, 1, 1, 0);
  queue.Push(0, 0, 2, 2, 7000);
  queue.Push(0, 1, 0, 3, 7000);
  queue.Push(0, 1, 0, 4, 9000);
  queue.Push(0, 2, 0, 5, 9000);
  // 1 has waited 9 s longer than 4 and 5: enough for one level, not for two.
  CHECK(TakeAll(&queue) == std::vector<uint32_t>{5, 3, 1, 4, 2});
}

TEST_CASE("ageing of zero is none, and a clock that runs backwards stands still") {
  ReadyQueue strict(0);
  strict.AddType(ReadyQueue::kNoLimit);
  strict.Push(0, 0, 0, 1, 0);
  strict.Push(0, 1, 0, 2, 1e15);
  CHECK(TakeAll(&strict) == std::vector<uint32_t>{2, 1});
  ReadyQueue queue(1000);
  queue.AddType(ReadyQueue::kNoLimit);
  queue.Push(0, 0, 0, 1, 1e18);
  queue.Push(0, 0, 0, 2, 5);
  CHECK(queue.Check());
  CHECK(TakeAll(&queue) == std::vector<uint32_t>{1, 2});
}

TEST_CASE("tenants and priorities that come and go leave nothing behind") {
  ReadyQueue queue(1000);
  queue.AddType(ReadyQueue::kNoLimit);
  ReadyQueue::Head head;
  size_t settled = 0;
  for (uint32_t i = 0; i < 200000; i++) {
    queue.Push(0, static_cast<int16_t>(i % 300), i, i, i);
    if (i % 2 == 0) continue;
    for (int n = 0; n < 2; n++) {
      REQUIRE(queue.Peek(&head));
      queue.Take(head);
      queue.Release(0);
    }
    if (i == 100001) settled = queue.bytes();
  }
  CHECK(queue.size() == 0);
  CHECK(queue.bytes() <= settled + settled / 10);
  CHECK(queue.bytes() < 4 * 1024 * 1024);
  CHECK(queue.Check());
}

TEST_CASE(
    "a tenant that comes back has not got rid of its debt, however many come and go meanwhile") {
  ReadyQueue queue(0);
  queue.AddType(ReadyQueue::kNoLimit);
  queue.SetWeight(1, 0.001);
  const auto take = [&] {
    ReadyQueue::Head head;
    REQUIRE(queue.Peek(&head));
    queue.Take(head);
    queue.Release(0);
    return head.token;
  };
  for (uint32_t i = 0; i < 3000; i++) queue.Push(0, 0, 0, 0, 0);
  queue.Push(0, 0, 1, 1, 0);
  while (take() != 1) continue;
  for (uint32_t tenant = 2; tenant < 300; tenant++) {
    queue.Push(0, 0, tenant, tenant, 0);
    while (take() != tenant) continue;
  }
  queue.Push(0, 0, 1, 1, 0);
  for (int i = 0; i < 500; i++) CHECK(take() == 0);
}

TEST_CASE("a tenant that is stopped holds nobody up, and goes on where it was") {
  ReadyQueueDriver driver(80);
  driver.AddType(ReadyQueue::kNoLimit);
  driver.AddType(ReadyQueue::kNoLimit);
  // The stopped one has the oldest entries, the highest priority, and some of both types.
  for (uint32_t i = 0; i < 300; i++) driver.Push(i % 2, 3, 1, i);
  for (uint32_t i = 0; i < 20; i++) driver.Push(0, 0, 2, 300);
  driver.SetStopped(ReadyQueue::kNone, 1, true);
  driver.Push(1, 3, 1, 301);
  CHECK(driver.Agrees());
  CHECK(driver.queue().Takeable(SIZE_MAX) == 20);
  uint32_t token;
  for (int i = 0; i < 20; i++) {
    REQUIRE(driver.Take(&token));
    CHECK(token >= 300);
  }
  REQUIRE(driver.Take(&token));
  CHECK(token == ~0u);
  driver.SetStopped(1, 1, true);
  driver.SetStopped(ReadyQueue::kNone, 1, false);
  CHECK(driver.queue().Takeable(SIZE_MAX) == 150);
  REQUIRE(driver.Take(&token));
  CHECK(token == 0);
  REQUIRE(driver.Take(&token));
  CHECK(token == 2);
  driver.SetStopped(1, 1, false);
  REQUIRE(driver.Take(&token));
  CHECK(token == 1);
  CHECK(driver.Agrees());
}

TEST_CASE("a type without credits is passed over, and each that is taken costs one") {
  ReadyQueueDriver driver(0);
  driver.AddType(ReadyQueue::kNoLimit);
  driver.AddType(ReadyQueue::kNoLimit);
  for (uint32_t i = 0; i < 10; i++) driver.Push(0, 5, 0, 0);
  driver.Push(1, 0, 0, 0);
  driver.SetCredits(0, 3);
  CHECK(driver.queue().Takeable(SIZE_MAX) == 4);
  uint32_t token;
  for (uint32_t i = 0; i < 3; i++) {
    REQUIRE(driver.Take(&token));
    CHECK(token == i);
  }
  REQUIRE(driver.Take(&token));
  CHECK(token == 10);
  REQUIRE(driver.Take(&token));
  CHECK(token == ~0u);
  driver.queue().AddCredits(0, 0.75, 2);
  CHECK(driver.queue().Takeable(SIZE_MAX) == 0);
  driver.queue().AddCredits(0, 5, 2);
  CHECK(driver.queue().Takeable(SIZE_MAX) == 2);
  CHECK(driver.queue().credits(0) == 2);
}

TEST_CASE("what is stale is swept out when it outnumbers the rest") {
  ReadyQueueDriver driver(0);
  driver.AddType(ReadyQueue::kNoLimit);
  for (uint32_t i = 0; i < 5000; i++) driver.Push(0, 0, i % 3, 0);
  for (uint32_t i = 0; i < 4500; i++) driver.Forget(0);
  CHECK(!driver.queue().wants_sweep());
  for (uint32_t i = 0; i < 200; i++) driver.Push(0, 1, 7, 0);
  for (uint32_t i = 0; i < 650; i++) driver.Forget(0);
  CHECK(driver.queue().wants_sweep());
  driver.Sweep();
  CHECK(driver.entries() == 50);
  CHECK(driver.Agrees());
}

TEST_CASE("the queue and the model agree, whatever is pushed, taken, forgotten and swept") {
  for (uint32_t seed = 0; seed < 60; seed++) {
    std::mt19937 random(seed);
    ReadyQueueDriver driver(seed % 3 == 0 ? 0 : 80);
    const uint32_t types = 1 + seed % 4;
    for (uint32_t type = 0; type < types; type++) {
      driver.AddType(type % 2 == 0 ? ReadyQueue::kNoLimit : 3);
    }
    double now = 0;
    for (int step = 0; step < 600; step++) {
      switch (random() % 12) {
        case 0:
        case 1:
        case 2:
        case 3:
          driver.Push(static_cast<uint32_t>(random() % types), static_cast<int>(random() % 4) - 2,
                      static_cast<uint32_t>(random() % 5), now);
          break;
        case 4:
        case 5:
        case 6: {
          uint32_t token;
          REQUIRE(driver.Take(&token));
          break;
        }
        case 7: driver.Release(static_cast<uint32_t>(random() % types)); break;
        case 8:
          now += static_cast<double>(random() % 40);
          if (random() % 8 == 0) {
            driver.SetWeight(static_cast<uint32_t>(random() % 5),
                             static_cast<int>(random() % 7) - 3);
          }
          break;
        case 9:
          driver.Forget(random() % 8);
          if (random() % 6 == 0) driver.Sweep();
          break;
        case 10:
          driver.SetStopped(random() % 3 == 0 ? ReadyQueue::kNone
                                              : static_cast<uint32_t>(random() % types),
                            static_cast<uint32_t>(random() % 5), random() % 2 == 0);
          break;
        default:
          if (seed % 2 == 0) break;
          driver.SetCredits(static_cast<uint32_t>(random() % types),
                            static_cast<uint32_t>(random() % 20));
      }
      REQUIRE(driver.Agrees());
    }
  }
}

}  // namespace
}  // namespace millrace

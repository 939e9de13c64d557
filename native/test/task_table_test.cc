// Unit tests of the task table, its slab and its timers. That it does the right thing whatever
// comes is compared with a model in test/model/task-table.test.ts, and fuzzed in
// fuzz_task_table.cc.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "../task_table.h"

#include <doctest/doctest.h>

#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../task_slab.h"
#include "../task_timers.h"
#include "frame_maker.h"

namespace millrace {
namespace {

using ClaimMode = TaskTable::ClaimMode;

constexpr Now kNow = {100000, 1000};

Text TextOf(const std::string& text) { return {text.data(), static_cast<uint32_t>(text.size())}; }

Now Later(double ms) { return {kNow.wall_ms + ms, kNow.mono_ms + ms}; }

struct Setup {
  TaskCounters counters = {};
  TaskTable table{&counters, kNow.mono_ms, 0, TextOf("me")};
  Handle cut = table.BeginCut();

  Setup() { table.DefineType(TextOf("t"), {0, ReadyQueue::kNoLimit, false}, kNow); }

  Handle Add(const std::vector<TaskDraft>& tasks, const std::string& ref, bool hold = false) {
    const auto frame = TasksFrame(tasks);
    Handle handle = 0;
    const TaskTable::Ingest segment = {frame.data(), frame.size(), TextOf(ref), nullptr, 0, hold};
    REQUIRE(table.Add(segment, kNow, &handle) == TaskTable::IngestError::kNone);
    REQUIRE(table.Check());
    return handle;
  }

  TaskTable::Claimed Claim(uint32_t tasks, Now now = kNow, ClaimMode mode = ClaimMode::kNow) {
    const auto claimed = table.Claim(cut, {0, tasks, 1000, 1e9, 1e9, mode}, now);
    REQUIRE(table.Check());
    return claimed;
  }
};

TaskDraft Due(double ms, double expires = 0) {
  TaskDraft task;
  task.due_at_ms = kNow.wall_ms + ms;
  task.expires_at_ms = expires;
  return task;
}

TEST_CASE("a slab gives blocks that do not overlap, and everything back") {
  TaskSlab slab;
  std::mt19937 random(1);
  struct Held {
    SlabBlock block;
    uint8_t mark;
  };
  std::vector<Held> held;
  for (int step = 0; step < 6000; step++) {
    if (held.empty() || random() % 5 < 3) {
      const size_t bytes = 1 + (random() % 20 == 0 ? random() % 700000 : random() % 9000);
      const SlabBlock block = slab.Allocate(bytes);
      CHECK(reinterpret_cast<uintptr_t>(block.data) % 64 == 0);
      const auto mark = static_cast<uint8_t>(random());
      block.data[0] = mark;
      block.data[bytes - 1] = mark;
      held.push_back({block, mark});
    } else {
      std::swap(held[random() % held.size()], held.back());
      const Held& last = held.back();
      CHECK(last.block.data[0] == last.mark);
      CHECK(last.block.data[last.block.bytes - 1] == last.mark);
      slab.Free(last.block);
      held.pop_back();
    }
    if (step % 100 == 0) REQUIRE(slab.Check());
  }
  for (const Held& one : held) slab.Free(one.block);
  CHECK(slab.Check());
  CHECK(slab.bytes() <= 16 * TaskSlab::kRegionBytes);
  while (slab.CanTrim()) slab.Trim();
  CHECK(slab.bytes() == TaskSlab::kRegionBytes);
}

// So many regions, each with one block that fills an eighth of it and nothing else.
std::vector<SlabBlock> OpenRegions(TaskSlab* slab, size_t regions) {
  std::vector<SlabBlock> blocks;
  for (size_t i = 0; i < regions * 8; i++) blocks.push_back(slab->Allocate(256 * 1024));
  CHECK(slab->bytes() >= regions * TaskSlab::kRegionBytes);
  return blocks;
}

TEST_CASE("a slab keeps what every wave takes, and gives back what none does") {
  constexpr size_t kRegion = TaskSlab::kRegionBytes;
  TaskSlab slab;
  const auto wave = [&slab](size_t regions) {
    for (const SlabBlock& block : OpenRegions(&slab, regions)) slab.Free(block);
  };
  wave(12);
  CHECK(slab.bytes() == 12 * kRegion);
  for (int i = 0; i < 20; i++) {
    slab.Trim();
    wave(12);
    CHECK(slab.bytes() == 12 * kRegion);
  }
  // Smaller waves: the rest goes by halves, what they take stays.
  for (int i = 0; i < 20; i++) {
    slab.Trim();
    CHECK(slab.bytes() == (i == 0 ? 12 : i == 1 ? 7 : i == 2 ? 5 : i == 3 ? 4 : 3) * kRegion);
    wave(3);
  }
  CHECK(slab.bytes() == 3 * kRegion);
  slab.Trim();
  CHECK(slab.bytes() == 3 * kRegion);
  slab.Trim();
  CHECK(slab.bytes() == kRegion);
  CHECK(!slab.CanTrim());
  slab.Trim();
  CHECK(slab.bytes() == kRegion);
  CHECK(slab.Check());
}

TEST_CASE("a slab keeps a bounded number of spare regions, and trims a bounded number at a time") {
  constexpr size_t kRegion = TaskSlab::kRegionBytes;
  TaskSlab slab;
  const auto kept = OpenRegions(&slab, 160);
  auto gone = OpenRegions(&slab, 40);
  for (const SlabBlock& block : gone) slab.Free(block);
  // 16, and an eighth of those in use.
  CHECK(slab.bytes() == (160 + 16 + 20) * kRegion);
  slab.Trim();
  CHECK(slab.bytes() == (160 + 36) * kRegion);
  slab.Trim();
  CHECK(slab.bytes() == (160 + 20) * kRegion);
  for (const SlabBlock& block : kept) slab.Free(block);
  CHECK(slab.bytes() == 16 * kRegion);
  CHECK(slab.Check());
}

#if defined(__linux__)
// Pages of address space that the process has.
size_t MappedPages() {
  size_t pages = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  REQUIRE(file != nullptr);
  CHECK(std::fscanf(file, "%zu", &pages) == 1);
  std::fclose(file);
  return pages;
}

TEST_CASE("a slab leaves nothing mapped") {
  const size_t before = MappedPages();
  for (int i = 0; i < 40; i++) {
    TaskSlab slab;
    for (const SlabBlock& block : OpenRegions(&slab, 20)) slab.Free(block);
    while (slab.CanTrim()) slab.Trim();
  }
  CHECK(MappedPages() < before + 20 * TaskSlab::kRegionBytes / 4096);
}

TEST_CASE("a slab works where the system has no huge pages") {
  REQUIRE(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  TaskSlab slab;
  for (const SlabBlock& block : OpenRegions(&slab, 3)) {
    std::memset(block.data, 1, block.bytes);
    slab.Free(block);
  }
  CHECK(slab.Check());
  prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
}
#endif

TEST_CASE("a slab fills the holes of low regions before it opens another") {
  TaskSlab slab;
  std::vector<SlabBlock> blocks;
  for (int i = 0; i < 8192; i++) blocks.push_back(slab.Allocate(256));
  const size_t full = slab.bytes();
  for (size_t i = 0; i < blocks.size(); i += 2) slab.Free(blocks[i]);
  for (size_t i = 0; i < blocks.size(); i += 2) blocks[i] = slab.Allocate(200);
  CHECK(slab.bytes() == full);
  const SlabBlock large = slab.Allocate(512);
  CHECK(slab.bytes() == full + TaskSlab::kRegionBytes);
  slab.Free(large);
  for (const SlabBlock& block : blocks) slab.Free(block);
  CHECK(slab.Check());
}

TEST_CASE("timers fire in order, and stopped ones leave their memory behind for others") {
  TaskTimers timers(0);
  uint32_t out[64];
  for (uint32_t round = 0; round < 40; round++) {
    std::vector<uint32_t> records;
    for (uint32_t i = 0; i < 20000; i++) {
      records.push_back(timers.Start(round * 100 + 50 + i % 7, i));
    }
    for (size_t i = 0; i < records.size(); i++) {
      if (i % 50 != 0) timers.Stop(records[i]);
    }
    CHECK(timers.size() == 400);
    size_t fired = 0;
    for (size_t count = 64; count == 64; fired += count) {
      count = timers.Advance(round * 100 + 99, out, 64);
    }
    CHECK(fired == 400);
  }
  CHECK(timers.Check());
  CHECK(timers.NextDue() == kNever);
  CHECK(timers.bytes() < 4 * 1024 * 1024);
}

TEST_CASE("a task starts when it is due, and not before") {
  Setup s;
  s.Add({Due(0), Due(10), Due(10.5)}, "a");
  CHECK(s.counters.ready[0] == 1);
  CHECK(s.table.NextDueMs() == 1010);
  CHECK(s.table.Advance(Later(9.9), 100) == 0);
  CHECK(s.table.Advance(Later(10), 100) == 1);
  CHECK(s.table.Advance(Later(10.9), 100) == 0);
  CHECK(s.table.Advance(Later(11), 100) == 1);
  CHECK(s.counters.ready[0] == 3);
  CHECK(s.table.Check());
}

TEST_CASE("a task that does not start within its time expires, once") {
  Setup s;
  const Handle segment =
      s.Add({Due(0, kNow.wall_ms + 5), Due(0, kNow.wall_ms), Due(20, kNow.wall_ms + 30)}, "a");
  Handle expired[4];
  REQUIRE(s.table.TakeExpired(expired, 4) == 1);
  CHECK(expired[0] == s.table.TaskAt(segment, 1));
  s.table.Advance(Later(40), 100);
  CHECK(s.counters.expired == 2);
  // Cancelled before it was taken: not listed any more.
  CHECK(s.table.Cancel(s.table.TaskAt(segment, 0), nullptr, 0, Later(40)) ==
        TaskTable::CancelAnswer::kCancelled);
  REQUIRE(s.table.TakeExpired(expired, 4) == 1);
  CHECK(expired[0] == s.table.TaskAt(segment, 2));
  CHECK(s.table.End(expired[0], TaskState::kExpired, nullptr, 0, Later(40)));
  CHECK(!s.table.End(expired[0], TaskState::kExpired, nullptr, 0, Later(40)));
  CHECK(s.table.Check());
}

TEST_CASE("a task that was claimed once does not expire afterwards") {
  Setup s;
  s.Add({Due(0, kNow.wall_ms + 5)}, "a");
  const auto claimed = s.Claim(1);
  std::vector<Handle> lost;
  REQUIRE(s.table.EndBatch(claimed.batch, &lost));
  REQUIRE(lost.size() == 1);
  CHECK(s.table.Retry(lost[0], Later(50).wall_ms, Later(50).mono_ms, true, kNow));
  s.table.Advance(Later(60), 100);
  CHECK(s.counters.expired == 0);
  CHECK(s.counters.ready[0] == 1);
}

TEST_CASE("two losses make a task run alone: only claims of that mode find it") {
  Setup s;
  TaskDraft suspect = Due(0);
  suspect.losses = 2;
  s.Add({Due(0), suspect, Due(0), suspect}, "a");
  CHECK(s.counters.ready[0] == 4);
  CHECK(s.table.Takeable(0, false, 10) == 2);
  CHECK(s.table.Takeable(0, true, 10) == 2);
  CHECK(s.Claim(10).tasks == 2);
  CHECK(s.Claim(10).batch == 0);
  CHECK(s.Claim(10, kNow, ClaimMode::kAlone).tasks == 1);
  CHECK(s.Claim(10, kNow, ClaimMode::kAlone).tasks == 1);
  CHECK(s.Claim(10, kNow, ClaimMode::kAlone).batch == 0);
  CHECK(s.table.Check());
}

TEST_CASE("who runs alone counts for the limit of its type, and waits for it") {
  Setup s;
  s.table.DefineType(TextOf("t"), {0, 1, false}, kNow);
  TaskDraft suspect = Due(0);
  suspect.losses = 2;
  s.Add({Due(0), suspect, Due(0)}, "a");
  const auto first = s.Claim(10);
  CHECK(first.tasks == 1);
  CHECK(s.Claim(10, kNow, ClaimMode::kAlone).batch == 0);
  std::vector<Handle> lost;
  REQUIRE(s.table.EndBatch(first.batch, &lost));
  CHECK(s.Claim(10, kNow, ClaimMode::kAlone).tasks == 1);
  CHECK(s.Claim(10).batch == 0);
}

TEST_CASE("an isolated task runs alone from when it is ready next") {
  Setup s;
  s.Add({Due(0)}, "a");
  const auto first = s.Claim(10);
  std::vector<Handle> lost;
  REQUIRE(s.table.EndBatch(first.batch, &lost));
  REQUIRE(lost.size() == 1);
  CHECK(s.table.Isolate(lost[0]));
  CHECK(s.table.Retry(lost[0], kNow.wall_ms, kNow.mono_ms, false, kNow));
  CHECK(s.Claim(10).batch == 0);
  const auto alone = s.Claim(10, kNow, ClaimMode::kAlone);
  CHECK(alone.tasks == 1);
  CHECK(s.table.Check());
  std::vector<Handle> cancelled;
  REQUIRE(s.table.Unclaim(alone.batch, kNow, &cancelled));
  CHECK(s.table.Takeable(0, true, 10) == 1);
  CHECK(s.table.Check());
}

TEST_CASE("a claim ahead ends before a task that is claimed just in time") {
  Setup s;
  s.table.DefineType(TextOf("once"), {0, ReadyQueue::kNoLimit, true}, kNow);
  TaskDraft once = Due(0);
  once.type = "once";
  s.Add({Due(0), Due(0), once, Due(0)}, "a");
  CHECK(s.Claim(10, kNow, ClaimMode::kAhead).tasks == 2);
  CHECK(s.Claim(10, kNow, ClaimMode::kAhead).batch == 0);
  CHECK(s.Claim(10).tasks == 2);
}

TEST_CASE("a claim ends at its bytes, its work and its segments") {
  Setup s;
  TaskDraft task = Due(0);
  task.payload = std::string(100, 'x');
  s.Add({task, task, task}, "a");
  s.Add({task, task, task}, "b");
  CHECK(s.table.Claim(s.cut, {0, 64, 10, 150, 1e9, ClaimMode::kNow}, kNow).tasks == 2);
  const auto one_segment = s.table.Claim(s.cut, {0, 64, 0, 1e9, 1e9, ClaimMode::kNow}, kNow);
  CHECK(one_segment.tasks == 1);
  CHECK(one_segment.end == TaskTable::ClaimEnd::kSegments);
  CHECK(s.table.Claim(s.cut, {1, 64, 10, 1e9, 1e9, ClaimMode::kNow}, kNow).batch == 0);
  CHECK(s.table.Touched(s.cut)->size() == 1);
}

TEST_CASE("handles of what is gone are refused, also when their place is used again") {
  Setup s;
  std::vector<Handle> tasks;
  std::vector<Handle> segments;
  for (int round = 0; round < 3000; round++) {
    const Handle segment = s.Add({Due(0), Due(5)}, "a");
    for (const Handle known : segments) REQUIRE(known != segment);
    if (round % 100 == 0) {
      segments.push_back(segment);
      tasks.push_back(s.table.TaskAt(segment, 1));
    }
    REQUIRE(s.table.Drop(segment));
  }
  TaskTable::TaskView view;
  for (const Handle task : tasks) CHECK(!s.table.View(task, &view));
  CHECK(s.table.bytes() < 4 * 1024 * 1024);
}

TEST_CASE("pages are given back when the table is empty, and generations go on") {
  Setup s;
  std::vector<Handle> segments;
  for (int i = 0; i < 6000; i++) {
    const auto frame = TasksFrame({Due(50)});
    const std::string ref = "s" + std::to_string(i);
    Handle handle = 0;
    REQUIRE(s.table.Add({frame.data(), frame.size(), TextOf(ref), nullptr, 0, false}, kNow,
                        &handle) == TaskTable::IngestError::kNone);
    segments.push_back(handle);
  }
  const size_t full = s.table.bytes();
  for (const Handle segment : segments) REQUIRE(s.table.Drop(segment));
  CHECK(s.table.Check());
  // However often it is asked: what has not lain there for a second stays.
  const size_t dropped = s.table.bytes();
  for (int i = 0; i < 20; i++) s.table.Advance(kNow, 4096);
  CHECK(s.table.bytes() == dropped);
  // The table asks for the time that it takes; after it, next to nothing is left.
  Now now = kNow;
  double asked_ms = 0;
  for (int calls = 0; s.table.NextDueMs() < std::numeric_limits<double>::infinity(); calls++) {
    REQUIRE(calls < 10);
    CHECK(s.table.NextDueMs() <= now.mono_ms + 1000);
    asked_ms = std::max(now.mono_ms, s.table.NextDueMs());
    now = {now.wall_ms + (asked_ms - now.mono_ms), asked_ms};
    s.table.Advance(now, 4096);
  }
  CHECK(asked_ms <= kNow.mono_ms + 5000);
  CHECK(s.table.bytes() + 1024 * 1024 < full);
  CHECK(s.table.bytes() < 3 * 1024 * 1024);
  const Handle again = s.Add({Due(0)}, "again");
  for (const Handle segment : segments) REQUIRE(segment != again);
  CHECK(s.table.Drop(again));
}

TEST_CASE("a segment cannot be dropped while it runs, and not twice") {
  Setup s;
  const Handle segment = s.Add({Due(0), Due(0)}, "a");
  const auto claimed = s.Claim(1);
  CHECK(!s.table.Drop(segment));
  std::vector<Handle> none;
  CHECK(s.table.Unclaim(claimed.batch, kNow, &none));
  CHECK(none.empty());
  CHECK(s.table.Drop(segment));
  CHECK(!s.table.Drop(segment));
  CHECK(s.Claim(1).batch == 0);
  CHECK(s.table.Check());
}

TEST_CASE("the name of a segment is taken once") {
  Setup s;
  const Handle segment = s.Add({Due(0)}, "a");
  const auto frame = TasksFrame({Due(0)});
  Handle handle = 0;
  CHECK(s.table.Add({frame.data(), frame.size(), TextOf("a"), nullptr, 0, false}, kNow, &handle) ==
        TaskTable::IngestError::kKnown);
  CHECK(s.table.Find(TextOf("a")) == segment);
  CHECK(s.table.Find(TextOf("b")) == 0);
}

TEST_CASE("records that share bytes are refused, in tasks and in results") {
  Setup s;
  FrameMaker maker(FrameKind::kTasks, kTaskBytes);
  maker.String("t");
  maker.Bytes(std::string(400, 'x'));
  for (int i = 0; i < 3; i++) WriteAs<uint32_t>(maker.Record() + 44, 400);
  const auto frame = maker.Finish();
  Handle handle = 0;
  CHECK(s.table.Add({frame.data(), frame.size(), TextOf("a"), nullptr, 0, false}, kNow, &handle) ==
        TaskTable::IngestError::kFrame);
  s.Add({Due(0), Due(0), Due(0)}, "b");
  const auto claimed = s.Claim(3);
  FrameMaker results(FrameKind::kResults, kResultBytes);
  results.Bytes(std::string(200, 'x'));
  for (uint32_t i = 0; i < 3; i++) {
    uint8_t* at = results.Record();
    WriteAs<uint32_t>(at, i);
    WriteAs<uint32_t>(at + 20, 200);
  }
  const auto shared = results.Finish();
  std::vector<TaskTable::Verdict> verdicts;
  CHECK(!s.table.ApplyResults(claimed.batch, shared.data(), shared.size(), kNow, &verdicts));
  CHECK(s.counters.states[1] == 3);
  CHECK(s.table.Check());
}

TEST_CASE("ends of one frame share memory until the last of them is settled") {
  Setup s;
  const Handle segment = s.Add({Due(0), Due(0), Due(0)}, "a");
  const auto claimed = s.Claim(3);
  const auto frame = ResultsFrame({{0, Outcome::kCompleted, "one"},
                                   {1, Outcome::kCompleted, "two"},
                                   {2, Outcome::kCompleted, ""}});
  std::vector<TaskTable::Verdict> verdicts;
  REQUIRE(s.table.ApplyResults(claimed.batch, frame.data(), frame.size(), kNow, &verdicts));
  CHECK(verdicts.empty());
  CHECK(s.table.Watch(s.table.TaskAt(segment, 1)) == TaskTable::WatchAnswer::kWatching);
  TaskTable::Filing filing;
  std::vector<Handle> dead;
  REQUIRE(s.table.File(s.cut, segment, {1u << 2, 100, 1e6}, &filing, &dead));
  CHECK(filing.filed == 3);
  CHECK(filing.complete);
  std::vector<uint8_t> filed(filing.frame_bytes);
  s.table.WriteFiled(filed.data());
  FrameView view;
  REQUIRE(FrameView::Open(filed.data(), filed.size(), FrameKind::kStates, &view) ==
          FrameError::kNone);
  StateFields state;
  REQUIRE(ReadState(view, 1, &state) == FrameError::kNone);
  CHECK(std::memcmp(view.Bytes(state.bytes_at), "two", 3) == 0);
  TaskTable::Settled settled;
  std::vector<TaskTable::Ended> watched;
  REQUIRE(s.table.Settle(s.cut, &settled, &watched));
  CHECK(settled.tasks == 3);
  CHECK(settled.bytes == 21);
  REQUIRE(watched.size() == 1);
  CHECK(std::memcmp(watched[0].end, "two", 3) == 0);
  s.table.FreeEnds();
  CHECK(s.table.Watch(watched[0].task) == TaskTable::WatchAnswer::kSettled);
  std::vector<Handle> lost;
  CHECK(s.table.EndBatch(claimed.batch, &lost));
  CHECK(lost.empty());
  CHECK(s.table.Drop(segment));
  CHECK(s.counters.tasks == 0);
}

// What a frame of states says.
struct Stands {
  uint16_t index;
  TaskState state;
  uint16_t attempt;
  std::string executor;
  bool operator==(const Stands& other) const {
    return index == other.index && state == other.state && attempt == other.attempt &&
           executor == other.executor;
  }
};

std::vector<Stands> Overlay(Setup* s, Handle segment) {
  std::vector<Stands> stands;
  std::vector<uint8_t> frame(s->table.MeasureOverlay(segment));
  if (frame.empty()) return stands;
  s->table.WriteOverlay(segment, frame.data());
  FrameView view;
  REQUIRE(FrameView::Open(frame.data(), frame.size(), FrameKind::kStates, &view) ==
          FrameError::kNone);
  std::vector<Text> strings(view.string_count());
  view.Strings(strings.data());
  for (uint32_t i = 0; i < view.count(); i++) {
    StateFields state;
    REQUIRE(ReadState(view, i, &state) == FrameError::kNone);
    const Text& executor = strings[state.executor];
    stands.push_back(
        {state.index, state.state, state.attempt, std::string(executor.data, executor.length)});
  }
  return stands;
}

bool ApplyOverlay(Setup* s, Handle segment, const std::vector<StateDraft>& states) {
  const auto frame = StatesFrame(states);
  return s->table.ApplyOverlay(segment, frame.data(), frame.size());
}

std::vector<TaskTable::Verdict> Report(Setup* s, Handle batch,
                                       const std::vector<ResultDraft>& results) {
  const auto frame = ResultsFrame(results);
  std::vector<TaskTable::Verdict> verdicts;
  REQUIRE(s->table.ApplyResults(batch, frame.data(), frame.size(), kNow, &verdicts));
  REQUIRE(s->table.Check());
  return verdicts;
}

TaskTable::Filing FileAll(Setup* s, Handle segment) {
  TaskTable::Filing filing;
  std::vector<Handle> dead;
  REQUIRE(s->table.File(s->cut, segment, {~0u, 100, 1e6}, &filing, &dead));
  REQUIRE(s->table.Check());
  return filing;
}

TaskTable::Settled Settle(Setup* s) {
  TaskTable::Settled settled;
  std::vector<TaskTable::Ended> watched;
  REQUIRE(s->table.Settle(s->cut, &settled, &watched));
  s->table.FreeEnds();
  REQUIRE(s->table.Check());
  s->cut = s->table.BeginCut();
  return settled;
}

TEST_CASE("nothing of a held segment waits or is ready until it is resumed") {
  Setup s;
  TaskDraft unknown = Due(0);
  unknown.type = "unknown";
  const Handle segment = s.Add(
      {Due(0), Due(50), Due(0, kNow.wall_ms + 5), Due(0, kNow.wall_ms + 60), unknown}, "a");
  CHECK(s.table.Hold(segment));
  CHECK(s.table.Check());
  CHECK(s.table.Hold(segment));
  CHECK(s.counters.ready[0] == 0);
  CHECK(s.counters.delayed == 0);
  CHECK(s.counters.unhandled == 0);
  CHECK(s.counters.open == 5);
  CHECK(s.table.NextDueMs() == std::numeric_limits<double>::infinity());
  CHECK(s.table.Advance(Later(40), 100) == 0);
  CHECK(s.counters.expired == 0);
  CHECK(s.Claim(10, Later(40)).batch == 0);
  // A handler that comes now finds nothing that is ready.
  s.table.DefineType(TextOf("unknown"), {0, ReadyQueue::kNoLimit, false}, Later(40));
  CHECK(s.table.Check());

  std::vector<Handle> lost;
  const auto resumed = s.table.Resume(segment, Later(40), &lost);
  CHECK(s.table.Check());
  CHECK(resumed.open == 5);
  CHECK(resumed.open_bytes == 35);
  CHECK(lost.empty());
  CHECK(s.counters.ready[0] == 3);
  CHECK(s.counters.delayed == 1);
  CHECK(s.counters.expired == 1);
  s.table.Advance(Later(59), 100);
  CHECK(s.counters.ready[0] == 4);
  s.table.Advance(Later(60), 100);
  CHECK(s.counters.expired == 2);
  CHECK(s.Claim(10, Later(60)).tasks == 3);
  CHECK(!s.table.Hold(segment + 1));
}

TEST_CASE("a task that has expired is listed once, however often its segment is held") {
  Setup s;
  const Handle segment = s.Add({Due(-10, kNow.wall_ms)}, "a");
  Handle expired[4];
  std::vector<Handle> lost;
  for (int i = 0; i < 3; i++) {
    REQUIRE(s.table.Hold(segment));
    CHECK(s.table.Check());
    s.table.Resume(segment, kNow, &lost);
    CHECK(s.table.Check());
  }
  CHECK(s.table.TakeExpired(expired, 4) == 1);
  CHECK(s.table.TakeExpired(expired, 4) == 0);
  s.table.Hold(segment);
  s.table.Resume(segment, kNow, &lost);
  s.table.Hold(segment);
  CHECK(s.table.TakeExpired(expired, 4) == 0);
  CHECK(s.counters.expired == 0);

  s.table.Resume(segment, kNow, &lost);
  CHECK(s.counters.expired == 1);
  s.table.Hold(segment);
  // The wall clock went back: it is in time after all.
  s.table.Resume(segment, {kNow.wall_ms - 5, kNow.mono_ms}, &lost);
  CHECK(s.counters.ready[0] == 1);
  CHECK(s.table.TakeExpired(expired, 4) == 0);
  s.table.Advance(Later(5), 100);
  CHECK(s.counters.ready[0] == 0);
  CHECK(s.table.TakeExpired(expired, 4) == 1);
  CHECK(s.table.Check());
}

TEST_CASE("what runs when its segment is held goes on, and runs again only after it is resumed") {
  Setup s;
  const Handle segment = s.Add(std::vector<TaskDraft>(7, Due(0)), "a");
  const auto batch = s.Claim(4);
  const auto unclaimed = s.Claim(1);
  const auto running = s.Claim(1);
  REQUIRE(s.table.Hold(segment));
  CHECK(s.counters.running == 6);
  const auto verdicts = Report(&s, batch.batch,
                               {{0, Outcome::kCompleted, "one"},
                                {1, Outcome::kNotStarted, ""},
                                {2, Outcome::kFailed, "no"},
                                {3, Outcome::kFailedForGood, "never"}});
  REQUIRE(verdicts.size() == 2);
  CHECK(s.table.Retry(verdicts[0].task, Later(10).wall_ms, Later(10).mono_ms, true, kNow));
  CHECK(s.table.End(verdicts[1].task, TaskState::kFailed, nullptr, 0, kNow));
  std::vector<Handle> none;
  CHECK(s.table.Unclaim(unclaimed.batch, kNow, &none));
  CHECK(none.empty());
  CHECK(s.table.Check());
  CHECK(s.counters.states[0] == 4);
  CHECK(s.counters.ready[0] == 0);
  CHECK(s.counters.delayed == 0);
  CHECK(s.Claim(10).batch == 0);

  CHECK(s.table.FirstDirty() == segment);
  CHECK(FileAll(&s, segment).filed == 2);
  CHECK(Overlay(&s, segment) == std::vector<Stands>{{0, TaskState::kCompleted, 1, ""},
                                                    {1, TaskState::kPending, 0, ""},
                                                    {2, TaskState::kPending, 1, ""},
                                                    {3, TaskState::kFailed, 1, ""},
                                                    {4, TaskState::kPending, 0, ""},
                                                    {5, TaskState::kRunning, 1, "me"}});
  CHECK(Settle(&s).tasks == 2);

  // What is in a batch is not lost.
  std::vector<Handle> lost;
  CHECK(s.table.Resume(segment, kNow, &lost).open == 5);
  CHECK(lost.empty());
  CHECK(s.table.Check());
  CHECK(s.counters.ready[0] == 3);
  CHECK(s.counters.delayed == 1);
  CHECK(Report(&s, running.batch, {{0, Outcome::kCompleted, ""}}).empty());
}

TEST_CASE("an overlay is for a segment that is as it came") {
  Setup s;
  const std::vector<StateDraft> states = {{0, TaskState::kRunning, 1, "other"}};
  const Handle cancelled = s.Add({Due(0), Due(0)}, "cancelled", true);
  s.table.Cancel(s.table.TaskAt(cancelled, 1), nullptr, 0, kNow);
  CHECK(!ApplyOverlay(&s, cancelled, states));
  const Handle held = s.Add({Due(0)}, "held");
  const auto batch = s.Claim(1);
  s.table.Hold(held);
  CHECK(!ApplyOverlay(&s, held, states));
  CHECK(s.table.Check());
  const Handle fresh = s.Add({Due(0)}, "fresh", true);
  CHECK(s.table.Hold(fresh));
  CHECK(ApplyOverlay(&s, fresh, states));
  CHECK(!ApplyOverlay(&s, fresh, states));
  CHECK(s.table.Check());
  CHECK(*s.table.ExecutorOf(s.table.TaskAt(fresh, 0)) == "other");
  CHECK(Report(&s, batch.batch, {{0, Outcome::kCompleted, ""}}).empty());
}

TEST_CASE("a task that runs elsewhere stays under its executor, and counts for no limit here") {
  Setup s;
  s.table.DefineType(TextOf("t"), {0, 1, false}, kNow);
  const Handle segment = s.Add({Due(0), Due(0), Due(0), Due(0)}, "a", true);
  REQUIRE(ApplyOverlay(
      &s, segment,
      {{0, TaskState::kRunning, 3, "other"}, {1, TaskState::kRunning, 2, "gone"}}));
  std::vector<Handle> lost;
  s.table.Resume(segment, kNow, &lost);
  REQUIRE(lost.size() == 2);
  CHECK(*s.table.ExecutorOf(lost[0]) == "other");
  CHECK(*s.table.ExecutorOf(lost[1]) == "gone");
  CHECK(s.table.ExecutorOf(s.table.TaskAt(segment, 2)) == nullptr);
  CHECK(s.table.Running(0) == 0);
  CHECK(s.counters.running == 0);
  CHECK(s.table.Retry(lost[1], kNow.wall_ms, kNow.mono_ms, false, kNow));
  CHECK(s.table.ExecutorOf(lost[1]) == nullptr);
  const auto claimed = s.Claim(10);
  CHECK(claimed.tasks == 1);
  CHECK(s.table.Running(0) == 1);
  CHECK(*s.table.ExecutorOf(s.table.TaskAt(segment, 2)) == "me");
  CHECK(Overlay(&s, segment) == std::vector<Stands>{{0, TaskState::kRunning, 3, "other"},
                                                    {1, TaskState::kPending, 1, ""},
                                                    {2, TaskState::kRunning, 1, "me"}});

  // The other node says how it ended, and a task ends that has not run.
  REQUIRE(s.table.End(lost[0], TaskState::kCompleted, nullptr, 0, kNow));
  CHECK(s.table.Running(0) == 1);
  s.table.Cancel(s.table.TaskAt(segment, 3), nullptr, 0, kNow);
  CHECK(*s.table.ExecutorOf(lost[0]) == "other");
  CHECK(s.table.ExecutorOf(s.table.TaskAt(segment, 3)) == nullptr);
  CHECK(Report(&s, claimed.batch, {{0, Outcome::kCompleted, ""}}).empty());
  const std::vector<Stands> unfiled = {{0, TaskState::kRunning, 3, "other"},
                                       {1, TaskState::kPending, 1, ""},
                                       {2, TaskState::kRunning, 1, "me"},
                                       {3, TaskState::kRunning, 0, "me"}};
  CHECK(Overlay(&s, segment) == unfiled);
  const std::vector<Stands> filed = {{0, TaskState::kCompleted, 3, ""},
                                     {1, TaskState::kPending, 1, ""},
                                     {2, TaskState::kCompleted, 1, ""},
                                     {3, TaskState::kCancelled, 0, ""}};
  FileAll(&s, segment);
  CHECK(Overlay(&s, segment) == filed);
  REQUIRE(s.table.Revert(s.cut));
  s.cut = s.table.BeginCut();
  CHECK(Overlay(&s, segment) == unfiled);
  FileAll(&s, segment);
  CHECK(Settle(&s).tasks == 3);
  CHECK(Overlay(&s, segment) == filed);
}

TEST_CASE("a released segment keeps what is in batches, and nothing else") {
  Setup s;
  std::vector<TaskDraft> tasks(600, Due(0));
  tasks[3] = Due(50);
  tasks[4] = Due(0, kNow.wall_ms + 50);
  const Handle segment = s.Add(tasks, "a");
  const Handle other = s.Add({Due(50)}, "b");
  const auto ended = s.Claim(2);
  REQUIRE(Report(&s, ended.batch, {{0, Outcome::kCompleted, "one"}}).empty());
  std::vector<Handle> lost;
  REQUIRE(s.table.EndBatch(ended.batch, &lost));
  const auto batch = s.Claim(300);
  const auto task_at = [&](uint32_t index) { return s.table.TaskAt(segment, index); };
  const std::vector<Handle> handles = {task_at(0), task_at(1), task_at(2), task_at(3),
                                       task_at(299)};
  const Handle pending = task_at(599);
  for (const uint32_t index : {0u, 3u, 299u}) s.table.Watch(task_at(index));

  TaskTable::Released released;
  REQUIRE(s.table.Release(segment, &released));
  CHECK(s.table.Check());
  CHECK(released.open == 600);
  CHECK(released.open_bytes == 4200);
  CHECK(released.running == 300);
  REQUIRE(released.watched.size() == 3);
  CHECK(released.watched[0].index == 0);
  CHECK(released.watched[0].task == handles[0]);
  CHECK(released.watched[1].index == 3);
  CHECK(released.watched[2].index == 299);
  CHECK(released.watched[2].task == handles[4]);
  CHECK(s.counters.open == 1);
  CHECK(s.counters.open_bytes == 7);
  CHECK(s.counters.delayed == 1);
  CHECK(s.counters.ready[0] == 0);
  CHECK(s.counters.running == 300);
  CHECK(s.counters.tasks == 301);
  CHECK(s.counters.states[1] == 300);
  CHECK(s.counters.states[2] == 0);
  CHECK(s.counters.segments == 2);
  CHECK(s.counters.dirty == 0);
  CHECK(s.table.FirstDirty() == 0);
  CHECK(s.Claim(10).batch == 0);

  TaskTable::TaskView view;
  CHECK(!s.table.View(handles[0], &view));
  CHECK(!s.table.View(handles[1], &view));
  CHECK(!s.table.View(handles[3], &view));
  CHECK(!s.table.View(pending, &view));
  CHECK(task_at(0) == 0);
  REQUIRE(s.table.View(handles[2], &view));
  CHECK(view.is_released);
  CHECK(view.index == 2);
  REQUIRE(s.table.View(s.table.TaskAt(other, 0), &view));
  CHECK(!view.is_released);
  TaskTable::SegmentView seen;
  REQUIRE(s.table.ViewSegment(segment, &seen));
  CHECK(seen.tasks == 300);
  CHECK(seen.open == 0);

  // Nothing writes it any more, or brings it back.
  TaskTable::Filing filing;
  std::vector<Handle> dead;
  CHECK(!s.table.File(s.cut, segment, {~0u, 100, 1e6}, &filing, &dead));
  CHECK(s.table.MeasureOverlay(segment) == 0);
  CHECK(!s.table.Release(segment, &released));
  CHECK(!s.table.Hold(segment));
  lost.clear();
  CHECK(s.table.Resume(segment, kNow, &lost).open == 0);
  CHECK(lost.empty());
  CHECK(!ApplyOverlay(&s, segment, {{2, TaskState::kPending, 1, ""}}));
  CHECK(!s.table.Drop(segment));
  CHECK(s.table.Find(TextOf("a")) == 0);

  // It comes back from there, under the same name.
  const Handle again = s.Add({Due(0)}, "a");
  CHECK(s.table.Find(TextOf("a")) == again);
  CHECK(s.table.Drop(again));
  CHECK(s.table.Find(TextOf("a")) == 0);

  lost.clear();
  REQUIRE(s.table.EndBatch(batch.batch, &lost));
  CHECK(s.table.Check());
  CHECK(lost.size() == 300);
  for (const Handle task : lost) {
    CHECK(s.table.Forget(task));
    CHECK(!s.table.Forget(task));
  }
  CHECK(s.table.Check());
  CHECK(s.counters.segments == 1);
  CHECK(s.counters.tasks == 1);
  CHECK(!s.table.ViewSegment(segment, &seen));
}

TEST_CASE("a released segment with nothing in batches is gone") {
  Setup s;
  const Handle plain = s.Add({Due(0), Due(9)}, "plain");
  const Handle held = s.Add({Due(0), Due(0)}, "held", true);
  REQUIRE(ApplyOverlay(&s, held,
                       {{0, TaskState::kRunning, 1, "other"}, {1, TaskState::kCompleted, 1, ""}}));
  const Handle empty = s.Add({}, "empty");
  for (const Handle segment : {plain, held, empty}) {
    TaskTable::Released released;
    REQUIRE(s.table.Release(segment, &released));
    CHECK(s.table.Check());
    CHECK(released.open == (segment == plain ? 2 : segment == held ? 1 : 0));
    CHECK(released.running == 0);
    TaskTable::SegmentView view;
    CHECK(!s.table.ViewSegment(segment, &view));
    CHECK(!s.table.Release(segment, &released));
  }
  CHECK(s.counters.segments == 0);
  CHECK(s.counters.tasks == 0);
}

TEST_CASE("whatever a released task reports is left to decide, and only forgetting it is allowed") {
  Setup s;
  s.table.DefineType(TextOf("t"), {0, 6, false}, kNow);
  const Handle segment = s.Add(std::vector<TaskDraft>(8, Due(0)), "a");
  const auto batch = s.Claim(6);
  CHECK(s.table.Running(0) == 6);
  REQUIRE(s.table.Hold(segment));
  TaskTable::Released released;
  REQUIRE(s.table.Release(segment, &released));
  const Handle running = s.table.TaskAt(segment, 1);
  CHECK(!s.table.Forget(running));
  CHECK(s.table.Cancel(running, nullptr, 0, kNow) == TaskTable::CancelAnswer::kRunning);
  Handle found;
  uint32_t slot;
  CHECK(s.table.PlaceOf(running, &found, &slot));

  // It was claimed before, so it runs.
  std::vector<uint8_t> frame(s.table.MeasureBatch(batch.batch));
  REQUIRE(!frame.empty());
  s.table.WriteBatch(batch.batch, 5, frame.data());
  const auto verdicts = Report(&s, batch.batch,
                               {{0, Outcome::kCompleted, "one"},
                                {1, Outcome::kNotStarted, ""},
                                {2, Outcome::kFailed, "no"},
                                {3, Outcome::kFailedForGood, "never"},
                                {4, Outcome::kSnoozed, "5"},
                                {5, Outcome::kNotStarted, ""},
                                {5, Outcome::kNotStarted, ""}});
  CHECK(s.table.MeasureBatch(batch.batch) == 0);
  REQUIRE(verdicts.size() == 7);
  CHECK(verdicts[6].outcome == TaskTable::kStale);
  CHECK(s.table.Running(0) == 0);
  CHECK(s.counters.states[1] == 6);
  for (uint32_t i = 0; i < 6; i++) {
    const Handle task = verdicts[i].task;
    CHECK(verdicts[i].slot == i);
    TaskTable::TaskView view;
    REQUIRE(s.table.View(task, &view));
    CHECK(view.state == TaskState::kRunning);
    CHECK(view.is_cancel_asked == (i == 1));
    CHECK(*s.table.ExecutorOf(task) == "me");
    CHECK(!s.table.PlaceOf(task, &found, &slot));
    CHECK(!s.table.Retry(task, kNow.wall_ms, kNow.mono_ms, false, kNow));
    CHECK(!s.table.End(task, TaskState::kCompleted, nullptr, 0, kNow));
    CHECK(s.table.NoteLoss(task) == 0);
    CHECK(!s.table.Isolate(task));
    CHECK(s.table.Watch(task) == TaskTable::WatchAnswer::kGone);
    CHECK(s.table.Cancel(task, nullptr, 0, kNow) == TaskTable::CancelAnswer::kRunning);
    CHECK(s.table.Check());
    CHECK(s.table.Forget(task));
    CHECK(s.table.Check());
  }
  CHECK(s.counters.segments == 0);
  std::vector<Handle> lost;
  CHECK(s.table.EndBatch(batch.batch, &lost));
  CHECK(lost.empty());
}

TEST_CASE("a claim that is put back lists what belongs to another node by now") {
  Setup s;
  const Handle ours = s.Add({Due(0)}, "ours");
  const Handle theirs = s.Add({Due(0), Due(50)}, "theirs");
  const auto batch = s.Claim(2);
  TaskTable::Released released;
  REQUIRE(s.table.Release(theirs, &released));
  std::vector<Handle> left;
  REQUIRE(s.table.Unclaim(batch.batch, kNow, &left));
  CHECK(s.table.Check());
  REQUIRE(left.size() == 1);
  CHECK(left[0] == s.table.TaskAt(theirs, 0));
  CHECK(s.counters.ready[0] == 1);
  CHECK(!s.table.Forget(s.table.TaskAt(ours, 0)));
  // To drop it forgets what is left of it, too.
  CHECK(s.table.Drop(theirs));
  CHECK(s.counters.open == 1);
  CHECK(s.counters.tasks == 1);
  CHECK(s.table.Check());
}

TEST_CASE("a cut that touched a segment can be settled and reverted after its release") {
  for (const bool is_done : {true, false}) {
    CAPTURE(is_done);
    Setup s;
    const Handle gone = s.Add({Due(0)}, "gone");
    const Handle stays = s.Add({Due(0), Due(0)}, "stays");
    const auto first = s.Claim(2);
    REQUIRE(Report(&s, first.batch, {{0, Outcome::kCompleted, "x"}, {1, Outcome::kCompleted, "y"}})
                .empty());
    Settle(&s);
    s.table.Watch(s.table.TaskAt(stays, 0));
    FileAll(&s, gone);
    FileAll(&s, stays);
    const auto second = s.Claim(1);
    CHECK(second.tasks == 1);
    for (const Handle segment : {gone, stays}) {
      TaskTable::Released released;
      REQUIRE(s.table.Release(segment, &released));
      CHECK(released.open == (segment == gone ? 1 : 2));
      CHECK(released.watched.size() == (segment == gone ? 0 : 1));
      CHECK(s.table.Check());
    }
    // The place of the first may mean another task by now.
    s.Add({Due(9)}, "gone");
    if (is_done) {
      CHECK(Settle(&s).tasks == 0);
    } else {
      REQUIRE(s.table.Revert(s.cut));
      CHECK(s.table.Check());
    }
    CHECK(s.counters.open == 1);
    CHECK(s.counters.dirty == 0);
    std::vector<Handle> left;
    REQUIRE(s.table.EndBatch(second.batch, &left));
    REQUIRE(left.size() == 1);
    CHECK(s.table.Forget(left[0]));
    CHECK(s.counters.segments == 1);
  }
}

TEST_CASE("stale ready entries are swept out, and the rest keeps its order") {
  Setup s;
  std::vector<TaskDraft> tasks(4000);
  std::vector<Handle> segments;
  for (int i = 0; i < 3; i++) segments.push_back(s.Add(tasks, "s" + std::to_string(i)));
  for (uint32_t i = 0; i < 4000; i++) {
    s.table.Cancel(s.table.TaskAt(segments[0], i), nullptr, 0, kNow);
    if (i != 7) s.table.Cancel(s.table.TaskAt(segments[2], i), nullptr, 0, kNow);
    if (i < 1000) s.table.Cancel(s.table.TaskAt(segments[1], i), nullptr, 0, kNow);
  }
  CHECK(s.table.Check());
  CHECK(s.counters.ready[0] == 3001);
  uint32_t claimed = 0;
  for (;;) {
    const auto batch = s.table.Claim(s.cut, {0, 4096, 10, 1e9, 1e9, ClaimMode::kNow}, kNow);
    if (batch.batch == 0) break;
    claimed += batch.tasks;
  }
  CHECK(claimed == 3001);
}

}  // namespace
}  // namespace millrace

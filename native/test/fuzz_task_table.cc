// libFuzzer harness: the input is a program of operations on a task table, in which frames have
// bytes changed at will. The invariants have to hold after each, and everything has to be given
// back at the end. Build and run: see native/README.md.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../task_table.h"
#include "frame_maker.h"

namespace {

using namespace millrace;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ >= size_; }
  uint32_t Byte() { return at_ < size_ ? data_[at_++] : 0; }
  uint32_t Below(uint32_t bound) { return bound == 0 ? 0 : Byte() % bound; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

Text TextOf(const std::string& text) { return {text.data(), static_cast<uint32_t>(text.size())}; }

// Sometimes with a few bytes changed, and now and then cut off.
void Damage(Input* input, std::vector<uint8_t>* frame) {
  const uint32_t how = input->Byte();
  if (how < 160 || frame->empty()) return;
  for (uint32_t n = how % 4; n > 0; n--) {
    const size_t at = (input->Byte() | input->Byte() << 8) % frame->size();
    (*frame)[at] = static_cast<uint8_t>(input->Byte());
  }
  if (how % 7 == 0) frame->resize(input->Byte() % frame->size());
}

Text RefOf(const TaskTable& table, Handle segment) {
  Text ref = {nullptr, 0};
  Require(table.Ref(segment, &ref), "a segment's name");
  return ref;
}

template <typename T>
T Pick(Input* input, const std::vector<T>& from) {
  return from.empty() ? T() : from[input->Below(static_cast<uint32_t>(from.size()))];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  TaskCounters counters = {};
  const std::string executor = "me";
  TaskTable table(&counters, 1000, input.Byte() % 2 == 0 ? 0 : 50, TextOf(executor));
  Now now = {100000, 1000};
  table.DefineType(TextOf("a"), {0, ReadyQueue::kNoLimit, true}, now);
  table.DefineType(TextOf("b"), {1, 2, false}, now);
  const char* const names[] = {"a", "b", "c", "d"};
  std::vector<Handle> segments = {0};
  std::vector<Handle> batches = {0};
  std::vector<Handle> open_tasks;
  uint32_t next_ref = 0;
  uint32_t operations = 0;
  Handle cut = table.BeginCut();
  std::vector<uint8_t> out;

  const auto decide = [&](Handle task) {
    TaskTable::TaskView view;
    Require(table.View(task, &view) && view.state == TaskState::kRunning, "one to decide about");
    if (view.is_released) {
      Require(!table.Retry(task, now.wall_ms, now.mono_ms, true, now), "retry of a released task");
      Require(!table.End(task, TaskState::kFailed, data, 0, now), "end of a released task");
      if (input.Below(4) != 0) Require(table.Forget(task), "forget");
      return;
    }
    Require(!table.Forget(task), "forget of a task that is ours");
    switch (input.Below(3)) {
      case 0:
        Require(table.Retry(task, now.wall_ms + 5, now.mono_ms + input.Below(9), true, now),
                "retry");
        break;
      case 1: Require(table.End(task, TaskState::kFailed, data, size % 100, now), "fail"); break;
      default: open_tasks.push_back(task);
    }
  };

  while (!input.empty()) {
    switch (input.Below(15)) {
      case 0:
      case 1: {
        std::vector<TaskDraft> tasks(1 + input.Below(input.Byte() == 255 ? 255 : 6));
        if (tasks.size() > 250) tasks.resize(600);
        for (TaskDraft& task : tasks) {
          task.type = names[input.Below(4)];
          task.tenant = std::string(input.Below(3), 'x');
          task.due_at_ms = now.wall_ms + (input.Byte() % 4 == 0 ? input.Byte() : 0);
          task.expires_at_ms = input.Byte() % 4 == 0 ? task.due_at_ms + 1 + input.Below(30) : 0;
          task.priority = static_cast<int16_t>(input.Below(5)) - 2;
          task.losses = input.Byte() % 9 == 0 ? 2 : 0;
          task.payload = std::string(input.Below(40), 'p');
          task.metadata = std::string(input.Below(3), 'm');
        }
        std::vector<uint8_t> frame = TasksFrame(tasks);
        Damage(&input, &frame);
        const std::string ref = "s" + std::to_string(input.Byte() == 7 ? 0 : next_ref++);
        const TaskTable::Ingest segment = {
            frame.data(), frame.size(), TextOf(ref), nullptr, 0, input.Byte() % 5 == 0};
        Handle handle = 0;
        if (table.Add(segment, now, &handle) == TaskTable::IngestError::kNone) {
          segments.push_back(handle);
          Require(table.Find(TextOf(ref)) == handle, "find");
        }
        break;
      }
      case 2: {
        const double ms = input.Byte();
        now = {now.wall_ms + ms, now.mono_ms + ms};
        table.Advance(now, 1 + input.Below(8));
        break;
      }
      case 3: {
        TaskTable::ClaimLimits limits = {input.Below(2),
                                         1 + input.Below(8),
                                         input.Below(5),
                                         double(input.Byte()),
                                         1e9,
                                         static_cast<TaskTable::ClaimMode>(input.Below(3))};
        const auto claimed = table.Claim(cut, limits, now);
        if (claimed.batch == 0) break;
        batches.push_back(claimed.batch);
        const size_t length = table.MeasureBatch(claimed.batch);
        out.assign(length, 0);
        table.WriteBatch(claimed.batch, 5, out.data());
        FrameView view;
        Require(FrameView::Open(out.data(), length, FrameKind::kBatch, &view) == FrameError::kNone,
                "a batch frame");
        Require(view.count() == claimed.tasks, "a batch's tasks");
        break;
      }
      case 4:
      case 5: {
        std::vector<ResultDraft> results(input.Below(9));
        for (ResultDraft& result : results) {
          result = {input.Below(9), static_cast<Outcome>(input.Below(6)),
                    std::string(input.Below(20), 'r')};
        }
        std::vector<uint8_t> frame = ResultsFrame(results);
        Damage(&input, &frame);
        std::vector<TaskTable::Verdict> verdicts;
        if (!table.ApplyResults(Pick(&input, batches), frame.data(), frame.size(), now,
                                &verdicts)) {
          Require(verdicts.empty(), "verdicts of a refused frame");
        }
        for (const auto& verdict : verdicts) {
          if (verdict.outcome != TaskTable::kStale) decide(verdict.task);
        }
        break;
      }
      case 6: {
        std::vector<Handle> lost;
        const Handle batch = Pick(&input, batches);
        if (input.Byte() % 2 == 0) {
          table.EndBatch(batch, &lost);
        } else {
          table.Unclaim(batch, now, &lost);
        }
        for (const Handle task : lost) {
          const bool is_ours = table.NoteLoss(task) > 0;
          if (input.Byte() % 4 == 0) Require(table.Isolate(task) == is_ours, "isolate");
          decide(task);
        }
        break;
      }
      case 7: {
        const Handle segment = input.Byte() % 2 == 0 ? table.FirstDirty() : Pick(&input, segments);
        TaskTable::Filing filing;
        std::vector<Handle> dead;
        const TaskTable::FileLimits limits = {input.Byte() | 8, double(input.Below(9)),
                                              double(input.Byte())};
        if (!table.File(cut, segment, limits, &filing, &dead)) break;
        Require(table.Find(RefOf(table, segment)) == segment, "a released segment is filed");
        out.assign(filing.frame_bytes, 0);
        FrameView view;
        if (filing.frame_bytes > 0) {
          table.WriteFiled(out.data());
          Require(FrameView::Open(out.data(), out.size(), FrameKind::kStates, &view) ==
                      FrameError::kNone,
                  "a filed frame");
        }
        for (const Handle task : dead) {
          out.assign(table.MeasureDeadLetter(task), 0);
          Require(!out.empty(), "a dead letter");
          table.WriteDeadLetter(task, out.data());
        }
        break;
      }
      case 8: {
        const Handle segment = Pick(&input, segments);
        out.assign(table.MeasureOverlay(segment), 0);
        if (out.empty()) break;
        table.WriteOverlay(segment, out.data());
        FrameView view;
        Require(
            FrameView::Open(out.data(), out.size(), FrameKind::kStates, &view) == FrameError::kNone,
            "an overlay");
        break;
      }
      case 9: {
        if (input.Byte() % 2 == 0) {
          TaskTable::Settled settled;
          std::vector<TaskTable::Ended> watched;
          Require(table.Settle(cut, &settled, &watched), "settle");
          size_t sum = 0;
          for (const auto& ended : watched) {
            for (uint32_t i = 0; i < ended.end_length; i++) sum += ended.end[i];
          }
          Require(sum < SIZE_MAX, "sum");
          table.FreeEnds();
        } else {
          Require(table.Revert(cut), "revert");
        }
        Require(!table.Revert(cut), "a cut that is over");
        cut = table.BeginCut();
        break;
      }
      case 10: {
        // Any number may come as a handle.
        const Handle task = input.Byte() % 4 == 0
                                ? uint64_t{input.Byte()} << 32 | input.Byte() << 8
                                : table.TaskAt(Pick(&input, segments), input.Below(8));
        table.Cancel(task, data, size % 50, now);
        table.Watch(task);
        TaskTable::TaskView view;
        const bool is_there = table.View(task, &view);
        const bool is_running = is_there && view.state == TaskState::kRunning;
        const bool has_ended = is_there && view.state > TaskState::kRunning && !view.is_settled;
        const bool has_executor = table.ExecutorOf(task) != nullptr;
        Require(has_executor ? is_running || has_ended : !is_running, "an executor");
        Handle batch;
        uint32_t slot;
        table.PlaceOf(task, &batch, &slot);
        break;
      }
      case 11: {
        std::vector<StateDraft> states(input.Below(4));
        for (StateDraft& state : states) {
          state = {static_cast<uint16_t>(input.Below(4)), static_cast<TaskState>(input.Below(6)), 1,
                   "x"};
        }
        std::vector<uint8_t> frame = StatesFrame(states);
        Damage(&input, &frame);
        table.ApplyOverlay(Pick(&input, segments), frame.data(), frame.size());
        break;
      }
      case 12: {
        std::vector<Handle> lost;
        table.Resume(Pick(&input, segments), now, &lost);
        // Some may run on another node, which lives.
        for (const Handle task : lost) {
          if (input.Below(4) != 0) decide(task);
        }
        break;
      }
      case 13: {
        const Handle segment = Pick(&input, segments);
        if (input.Byte() % 2 == 0) {
          table.Hold(segment);
          break;
        }
        const double open = counters.open;
        const double busy = counters.running;
        TaskTable::Released released;
        if (!table.Release(segment, &released)) break;
        Require(counters.open == open - released.open && counters.running == busy, "release");
        Require(!table.Hold(segment) && table.MeasureOverlay(segment) == 0, "a released segment");
        TaskTable::SegmentView view;
        Require(table.ViewSegment(segment, &view) == (released.running > 0), "what stays");
        Require(released.running == 0 || view.tasks == released.running, "what stays of it");
        break;
      }
      default: {
        Handle expired[4];
        const size_t count = table.TakeExpired(expired, 4);
        for (size_t i = 0; i < count; i++) {
          Require(table.End(expired[i], TaskState::kExpired, data, size % 30, now), "expire");
        }
        if (input.Byte() % 3 == 0) table.Drop(Pick(&input, segments));
        if (input.Byte() % 9 == 0) table.DefineType(TextOf("c"), {0, 1, false}, now);
      }
    }
    // The checker walks every slot of the wheel, so not each time.
    if (++operations % 16 == 0) Require(table.Check(), "invariant");
  }
  for (const Handle batch : batches) {
    std::vector<Handle> lost;
    table.EndBatch(batch, &lost);
  }
  for (const Handle segment : segments) table.Drop(segment);
  Require(table.Check(), "invariant at the end");
  Require(counters.tasks == 0 && counters.segments == 0 && counters.delayed == 0 &&
              counters.open == 0 && counters.open_bytes == 0,
          "something is left");
  return 0;
}

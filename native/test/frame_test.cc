// Unit tests of the frame decoder: what it accepts, and that it refuses everything that lies.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "frame_maker.h"

namespace millrace {
namespace {

FrameError OpenTasks(const std::vector<uint8_t>& frame, FrameView* view) {
  // A buffer of exactly this size, so that reading one byte too many is seen by the sanitizer.
  return FrameView::Open(frame.data(), frame.size(), FrameKind::kTasks, view);
}

TEST_CASE("a frame is read as it was written") {
  const auto frame =
      TasksFrame({{"a", "x", 5, 9, -3, 2, "one", ""}, {"b", "x", 6, 0, 7, 0, "", "{}"}});
  FrameView view;
  REQUIRE(OpenTasks(frame, &view) == FrameError::kNone);
  REQUIRE(view.count() == 2);
  REQUIRE(view.string_count() == 3);
  Text strings[3];
  view.Strings(strings);
  TaskFields task;
  REQUIRE(ReadTask(view, 0, &task) == FrameError::kNone);
  CHECK(std::string(strings[task.type].data, strings[task.type].length) == "a");
  CHECK(std::string(strings[task.tenant].data, strings[task.tenant].length) == "x");
  CHECK(task.due_at_ms == 5);
  CHECK(task.expires_at_ms == 9);
  CHECK(task.priority == -3);
  CHECK(task.losses == 2);
  CHECK(std::memcmp(view.Bytes(task.payload_at), "one", 3) == 0);
  REQUIRE(ReadTask(view, 1, &task) == FrameError::kNone);
  CHECK(task.payload_length == 0);
  CHECK(std::memcmp(view.Bytes(task.metadata_at), "{}", 2) == 0);
}

TEST_CASE("a frame that is cut off anywhere is refused") {
  const auto frame = TasksFrame({{}, {"b", "x", 6, 0, 7, 0, "", "{}"}});
  for (size_t length = 0; length < frame.size(); length++) {
    const std::vector<uint8_t> part(frame.begin(), frame.begin() + static_cast<int>(length));
    FrameView view;
    CHECK(OpenTasks(part, &view) != FrameError::kNone);
    // Also when the header is made to fit.
    if (length < kFrameHeaderBytes) continue;
    std::vector<uint8_t> fitted = part;
    WriteAs<uint32_t>(&fitted[24], static_cast<uint32_t>(length));
    if (OpenTasks(fitted, &view) != FrameError::kNone) continue;
    TaskFields task;
    bool good = true;
    for (uint32_t i = 0; i < view.count(); i++)
      good &= ReadTask(view, i, &task) == FrameError::kNone;
    CHECK(!good);
  }
}

TEST_CASE("no change of a byte makes the decoder read outside the frame") {
  const auto frame =
      TasksFrame({{"a", "x", 5, 9, -3, 2, "one", ""}, {"b", "x", 6, 0, 7, 0, "", "{}"}});
  for (size_t at = 0; at < frame.size(); at++) {
    for (int value = 0; value < 256; value += 5) {
      std::vector<uint8_t> changed = frame;
      changed[at] = static_cast<uint8_t>(value);
      FrameView view;
      if (OpenTasks(changed, &view) != FrameError::kNone) continue;
      std::vector<Text> strings(view.string_count());
      view.Strings(strings.data());
      unsigned sum = 0;
      for (const Text& text : strings) {
        for (uint32_t i = 0; i < text.length; i++) sum += static_cast<unsigned char>(text.data[i]);
      }
      for (uint32_t i = 0; i < view.count(); i++) {
        TaskFields task;
        if (ReadTask(view, i, &task) != FrameError::kNone) continue;
        for (uint32_t n = 0; n < task.payload_length; n++) sum += view.Bytes(task.payload_at)[n];
        for (uint32_t n = 0; n < task.metadata_length; n++) sum += view.Bytes(task.metadata_at)[n];
      }
      CHECK(sum != 1);
    }
  }
}

TEST_CASE("times that are no times are refused") {
  for (double bad :
       {std::nan(""), -1.0, 9007199254740993.0 * 2, std::numeric_limits<double>::infinity()}) {
    TaskDraft task;
    task.due_at_ms = bad;
    FrameView view;
    const auto frame = TasksFrame({task});
    REQUIRE(OpenTasks(frame, &view) == FrameError::kNone);
    TaskFields fields;
    CHECK(ReadTask(view, 0, &fields) == FrameError::kNumber);
  }
}

TEST_CASE("outcomes and states that do not exist are refused") {
  FrameView view;
  auto frame = ResultsFrame({{0, static_cast<Outcome>(6), ""}});
  REQUIRE(FrameView::Open(frame.data(), frame.size(), FrameKind::kResults, &view) ==
          FrameError::kNone);
  ResultFields result;
  CHECK(ReadResult(view, 0, &result) == FrameError::kValue);
  frame = StatesFrame({{0, static_cast<TaskState>(6), 0, ""}});
  REQUIRE(FrameView::Open(frame.data(), frame.size(), FrameKind::kStates, &view) ==
          FrameError::kNone);
  StateFields state;
  CHECK(ReadState(view, 0, &state) == FrameError::kValue);
}

TEST_CASE("more records, newer versions and other kinds are refused") {
  FrameView view;
  for (const auto& [at, value] :
       {std::pair<size_t, uint8_t>{4, 2}, {4, 0}, {5, 2}, {9, 0x20}, {0, 0}}) {
    auto frame = TasksFrame({{}});
    frame[at] = value;
    CHECK(OpenTasks(frame, &view) == FrameError::kShape);
  }
}

TEST_CASE("a sizer writes what a maker makes") {
  FrameSizer sizer;
  for (int round = 0; round < 2; round++) {
    sizer.Reset(kResultBytes);
    CHECK(sizer.AddString(7, "abc", 3) == 0);
    CHECK(sizer.AddString(9, "", 0) == 1);
    CHECK(sizer.AddString(7, "abc", 3) == 0);
    CHECK(sizer.AppendString(11, "d", 1) == 2);
    sizer.AddRecord();
    sizer.AddBytes(5);
    FrameMaker maker(FrameKind::kResults, kResultBytes);
    maker.String("abc");
    maker.String("");
    maker.String("d");
    maker.Record();
    maker.Bytes("12345");
    const auto made = maker.Finish();
    REQUIRE(sizer.total() == made.size());
    std::vector<uint8_t> head(made.size(), 0xff);
    sizer.WriteHead(FrameKind::kResults, head.data());
    CHECK(std::memcmp(head.data(), made.data(), sizer.records_offset()) == 0);
  }
}

}  // namespace
}  // namespace millrace

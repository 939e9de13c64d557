// libFuzzer harness for the frame decoder: whatever the bytes, nothing outside them is read. The
// first byte chooses the kind; the header's total is made to fit, so that the fuzzer gets past it.
// Build and run: see native/README.md.
#include <cstdint>
#include <vector>

#include "../frame.h"

namespace {

// Reads every byte of a range, so that the sanitizer sees where it lies.
unsigned Sum(const uint8_t* bytes, size_t length) {
  unsigned sum = 0;
  for (size_t i = 0; i < length; i++) sum += bytes[i];
  return sum;
}

volatile unsigned sink;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  if (size < 1) return 0;
  const auto kind = static_cast<FrameKind>(1 + data[0] % 4);
  std::vector<uint8_t> frame(data + 1, data + size);
  if (frame.size() >= kFrameHeaderBytes && (data[0] & 0x80) == 0) {
    WriteAs<uint32_t>(frame.data(), kFrameMagic);
    frame[4] = kFrameVersion;
    frame[5] = static_cast<uint8_t>(kind);
    WriteAs<uint32_t>(&frame[24], static_cast<uint32_t>(frame.size()));
  }
  FrameView view;
  if (FrameView::Open(frame.data(), frame.size(), kind, &view) != FrameError::kNone) return 0;
  std::vector<Text> strings(view.string_count());
  view.Strings(strings.data());
  unsigned sum = 0;
  for (const Text& text : strings) {
    sum += Sum(reinterpret_cast<const uint8_t*>(text.data), text.length);
  }
  for (uint32_t i = 0; i < view.count(); i++) {
    TaskFields task;
    ResultFields result;
    StateFields state;
    if (kind == FrameKind::kTasks && ReadTask(view, i, &task) == FrameError::kNone) {
      if (task.payload_length > 0) sum += Sum(view.Bytes(task.payload_at), task.payload_length);
      if (task.metadata_length > 0) sum += Sum(view.Bytes(task.metadata_at), task.metadata_length);
      sum += strings[task.type].length + strings[task.tenant].length;
    } else if (kind == FrameKind::kResults && ReadResult(view, i, &result) == FrameError::kNone) {
      if (result.bytes_length > 0) sum += Sum(view.Bytes(result.bytes_at), result.bytes_length);
    } else if (kind == FrameKind::kStates && ReadState(view, i, &state) == FrameError::kNone) {
      if (state.bytes_length > 0) sum += Sum(view.Bytes(state.bytes_at), state.bytes_length);
      sum += strings[state.executor].length;
    }
  }
  sink = sum;
  return 0;
}

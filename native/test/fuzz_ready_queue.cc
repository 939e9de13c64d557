// libFuzzer harness: the input is a program of operations on a ready queue; it has to agree with
// the model after each, and its invariants have to hold. Build and run: see native/README.md.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "ready_queue_driver.h"

namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  millrace::ReadyQueueDriver driver(data[0] % 2 == 0 ? 0 : data[0]);
  const uint32_t types = 1 + data[1] % 4;
  for (uint32_t type = 0; type < types; type++) {
    driver.AddType(data[1] >> (type + 4) & 1 ? 2 : millrace::ReadyQueue::kNoLimit);
  }
  double now = 0;
  for (size_t at = 2; at + 1 < size; at += 2) {
    const uint8_t what = data[at];
    const uint8_t value = data[at + 1];
    switch (what % 8) {
      case 0:
      case 1:
      case 2: driver.Push(what / 8 % types, value % 8 - 4, value / 8, now); break;
      case 3:
      case 4: {
        uint32_t token;
        Require(driver.Take(&token), "take");
        break;
      }
      case 5: driver.Release(value % types); break;
      case 6:
        if (what & 8) {
          driver.SetWeight(value / 8, value % 8 - 4);
        } else if (what & 16) {
          driver.SetStopped(value & 1 ? millrace::ReadyQueue::kNone : value / 2 % types, value / 8,
                            what & 32);
        } else if (what & 64) {
          driver.SetCredits(value % types, value / 8);
        } else {
          now += value;
        }
        break;
      default:
        driver.Forget(value);
        if (what & 8) driver.Sweep();
    }
    Require(driver.Agrees(), "agreement");
  }
  return 0;
}

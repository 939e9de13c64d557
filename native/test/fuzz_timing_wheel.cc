// libFuzzer harness: the input is a program of wheel operations; the wheel has to agree with the
// model after each, and its invariants have to hold. Build and run: see native/README.md.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "wheel_driver.h"

namespace {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint64_t Take(size_t bytes) {
    uint64_t value = 0;
    const size_t count = bytes < size_ ? bytes : size_;
    std::memcpy(&value, data_, count);
    data_ += count;
    size_ -= count;
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// A distance in one of the wheel's magnitudes: its exponent in one byte, its value in two.
millrace::Tick Distance(Input* input) {
  const unsigned exponent = input->Take(1) % 40;
  const auto value = static_cast<millrace::Tick>(input->Take(2));
  const auto base = millrace::Tick{1} << exponent;
  return exponent < 16 ? value % (2 * base) - 1 : base + (value - 32768);
}

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const millrace::Tick start = millrace::Tick{1} << (input.Take(1) % 44);
  millrace::WheelDriver driver(start - static_cast<millrace::Tick>(input.Take(2)) % start);
  std::vector<uint64_t> handles = {0};
  while (!input.empty()) {
    const unsigned operation = static_cast<unsigned>(input.Take(1));
    const uint64_t handle = handles[operation / 8 % handles.size()];
    switch (operation % 8) {
      case 0:
      case 1: handles.push_back(driver.Schedule(driver.now() + Distance(&input))); break;
      case 2: Require(driver.Cancel(handle), "cancel"); break;
      case 3:
        Require(driver.Reschedule(handle, driver.now() + Distance(&input)), "reschedule");
        break;
      case 4:
      case 5:
        Require(driver.Advance(driver.now() + Distance(&input), operation / 8), "advance");
        break;
      case 6: driver.wheel().Reclaim(operation / 8); break;
      default:
        if (operation & 8) driver.wheel().RequestSweep();
        if (operation & 16) driver.ReleaseRecords();
        Require(driver.wheel().Check(), "invariant");
    }
    Require(driver.wheel().NextDue() <= driver.earliest(), "next due");
  }
  Require(driver.wheel().Check(), "invariant");
  // A driver that goes from one due time to the next comes to the end.
  for (size_t stops = 0; driver.pending() > 0; stops++) {
    const millrace::Tick next = driver.wheel().NextDue();
    Require(next > driver.now() || driver.earliest() <= driver.now(), "a stop that goes nowhere");
    Require(driver.Advance(next > driver.now() ? next : driver.now(), 16), "advance at the end");
    Require(stops < 4 * handles.size() + 16, "too many stops");
  }
  return 0;
}

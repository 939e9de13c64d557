// The only file that knows Node-API: it turns calls from TypeScript into calls on the native core.
//
// There is no state per process and none per environment: everything hangs on the queue that
// `create` returns, so any number of worker threads can load and unload the addon. A queue is freed
// when JavaScript drops it, when its environment goes away, or (its memory) by `close`.
//
// Arguments are trusted: src/timing checks what users give, and these functions are not reachable
// otherwise. No exception crosses Node-API, because the core throws none and calls back into no
// JavaScript.
//
// Shared memory (ArrayBuffers of V8, held by the TimerQueue as long as it lives, which is longer
// than any call):
//
//   control, 56 bytes:  [0] i32 live  [4] i32 emptied  [8] i32 commands  [12] i32 debt
//                       [16] f64 now  [24] f64 next due  [32] f64 quiet until
//                       [40] f64 bytes  [48] f64 entries
//   commands, 16 bytes each:  [0] f64 due  [8] u32 index  [12] u32 stamp
//   records: timer_records.h
//
// `commands` counts the schedulings not yet seen by the wheel, `debt` the cancellations and
// reschedulings since the last call, which pay for their share of the sweep. The last five are
// written here for JavaScript to read.
#include <node_api.h>

#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>

#include "task_binding.h"
#include "timer_records.h"
#include "timing_wheel.h"

namespace millrace {
namespace {

struct Control {
  TimerRecords::Counters counters;
  int32_t commands;
  int32_t debt;
  double now;
  double next_due;
  double quiet_until;
  double bytes;
  double entries;
};
static_assert(sizeof(Control) == 56, "the layout is shared with timer-queue.ts");

struct Command {
  double due;
  uint32_t index;
  uint32_t stamp;
};
static_assert(sizeof(Command) == 16, "the layout is shared with timer-queue.ts");

// Entries that a sweep looks at for each operation, and at each advance.
constexpr size_t kSweepPerOperation = 4;
constexpr size_t kSweepPerAdvance = 1024;
// A complete sweep is due this often at least; see timer_records.h on stamps.
constexpr uint64_t kSchedulingsPerSweep = uint64_t{1} << 29;

class Queue {
 public:
  Queue(Control* control, size_t control_bytes, const Command* commands, size_t commands_bytes)
      : control_(control),
        commands_(commands),
        shared_bytes_(control_bytes + commands_bytes),
        records_(&control->counters),
        wheel_(static_cast<Tick>(control->now), &records_) {
    Publish(true);
  }

  // Takes in what JavaScript has done since the last call.
  void Flush() {
    // Time that JavaScript has let pass without a call, because nothing was due.
    wheel_.Advance(static_cast<Tick>(control_->now), nullptr, 0);
    const auto count = static_cast<size_t>(control_->commands);
    for (size_t i = 0; i < count; i++) {
      const Command& command = commands_[i];
      // Cancelled or rescheduled in the meantime: never becomes an entry.
      if (!records_.IsCurrent(command.index, command.stamp)) continue;
      wheel_.Insert(static_cast<Tick>(command.due), command.index, command.stamp);
    }
    schedulings_ += count;
    if (schedulings_ >= kSchedulingsPerSweep) {
      schedulings_ = 0;
      wheel_.RequestSweep();
    }
    wheel_.Reclaim(kSweepPerOperation * (count + static_cast<size_t>(control_->debt)));
    control_->commands = 0;
    control_->debt = 0;
    Verify();
  }

  size_t Advance(double now, uint32_t* out, size_t capacity) {
    Flush();
    control_->now = now;
    const size_t fired = wheel_.Advance(static_cast<Tick>(now), out, capacity);
    if (wheel_.is_sweeping()) wheel_.Reclaim(kSweepPerAdvance);
    Verify();
    return fired;
  }

  bool Attach(uint32_t number, int32_t* words) { return records_.Attach(number, words); }
  void Detach(uint32_t number) { records_.Detach(number); }

  // Writes what JavaScript reads. The exact next due time needs a look at a record, which is likely
  // not cached, so it is left out (as NaN) unless it was asked for.
  void Publish(bool with_next_due) {
    control_->next_due =
        with_next_due ? ToMs(wheel_.NextDue()) : std::numeric_limits<double>::quiet_NaN();
    control_->quiet_until = ToMs(wheel_.QuietUntil());
    control_->bytes =
        static_cast<double>(sizeof(*this) + shared_bytes_ + records_.bytes() + wheel_.bytes());
    control_->entries = static_cast<double>(wheel_.entries());
  }

 private:
  // In debug and sanitizer builds, now and then, while that is quick: ends the process if an
  // invariant is broken.
  void Verify() {
#if defined(MILLRACE_CHECK)
    if (wheel_.entries() < 5000 && ++verifications_ % 64 == 0 && !wheel_.Check()) std::abort();
#endif
  }

  static double ToMs(Tick tick) {
    return tick == kNever ? std::numeric_limits<double>::infinity() : static_cast<double>(tick);
  }

  Control* const control_;
  const Command* const commands_;
  const size_t shared_bytes_;
  TimerRecords records_;
  TimingWheel wheel_;
  uint64_t schedulings_ = 0;  // since the last requested sweep
#if defined(MILLRACE_CHECK)
  uint64_t verifications_ = 0;
#endif
};

// What an external points to; outlives the queue when that is closed.
struct Holder {
  std::unique_ptr<Queue> queue;
};

template <size_t kCount>
Holder* Arguments(napi_env env, napi_callback_info info, napi_value (&args)[kCount]) {
  size_t count = kCount;
  void* holder = nullptr;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  napi_get_value_external(env, args[0], &holder);
  return static_cast<Holder*>(holder);
}

uint32_t Uint32(napi_env env, napi_value value) {
  uint32_t number = 0;
  napi_get_value_uint32(env, value, &number);
  return number;
}

template <typename T>
T* TypedArray(napi_env env, napi_value value, size_t* length) {
  void* data = nullptr;
  napi_get_typedarray_info(env, value, nullptr, length, &data, nullptr, nullptr);
  return static_cast<T*>(data);
}

// create(control: ArrayBuffer, commands: ArrayBuffer): queue, which starts at control.now
napi_value Create(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  void* control = nullptr;
  void* commands = nullptr;
  size_t control_bytes = 0;
  size_t commands_bytes = 0;
  napi_get_arraybuffer_info(env, args[0], &control, &control_bytes);
  napi_get_arraybuffer_info(env, args[1], &commands, &commands_bytes);
  auto holder = std::make_unique<Holder>();
  holder->queue = std::make_unique<Queue>(static_cast<Control*>(control), control_bytes,
                                          static_cast<const Command*>(commands), commands_bytes);
  napi_value external = nullptr;
  const napi_status status = napi_create_external(
      env, holder.get(), [](napi_env, void* data, void*) { delete static_cast<Holder*>(data); },
      nullptr, &external);
  // Fails when the environment is going away; JavaScript then sees undefined and does not go on.
  if (status == napi_ok) static_cast<void>(holder.release());
  return external;
}

// attach(queue, number, words: Int32Array): whether the chunk can be used
napi_value Attach(napi_env env, napi_callback_info info) {
  napi_value args[3];
  Holder* holder = Arguments(env, info, args);
  size_t length = 0;
  auto* words = TypedArray<int32_t>(env, args[2], &length);
  const bool attached = holder->queue->Attach(Uint32(env, args[1]), words);
  napi_value result = nullptr;
  napi_get_boolean(env, attached, &result);
  return result;
}

// detach(queue, number)
napi_value Detach(napi_env env, napi_callback_info info) {
  napi_value args[2];
  Arguments(env, info, args)->queue->Detach(Uint32(env, args[1]));
  return nullptr;
}

// flush(queue)
napi_value Flush(napi_env env, napi_callback_info info) {
  napi_value args[1];
  Holder* holder = Arguments(env, info, args);
  holder->queue->Flush();
  holder->queue->Publish(true);
  return nullptr;
}

// advance(queue, now, out: Uint32Array): number of tokens written
napi_value Advance(napi_env env, napi_callback_info info) {
  napi_value args[3];
  Holder* holder = Arguments(env, info, args);
  double now = 0;
  napi_get_value_double(env, args[1], &now);
  size_t capacity = 0;
  auto* out = TypedArray<uint32_t>(env, args[2], &capacity);
  const size_t fired = holder->queue->Advance(now, out, capacity);
  holder->queue->Publish(false);
  napi_value result = nullptr;
  napi_create_double(env, static_cast<double>(fired), &result);
  return result;
}

// close(queue): frees its memory; no other call may follow
napi_value Close(napi_env env, napi_callback_info info) {
  napi_value args[1];
  Arguments(env, info, args)->queue.reset();
  return nullptr;
}

}  // namespace
}  // namespace millrace

NAPI_MODULE_INIT() {
  const auto function = [](const char* name, napi_callback callback) {
    return napi_property_descriptor{name,    nullptr, callback,        nullptr,
                                    nullptr, nullptr, napi_enumerable, nullptr};
  };
  const napi_property_descriptor functions[] = {
      function("create", millrace::Create),   function("attach", millrace::Attach),
      function("detach", millrace::Detach),   function("flush", millrace::Flush),
      function("advance", millrace::Advance), function("close", millrace::Close),
  };
  const napi_status status =
      napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
  if (status != napi_ok || millrace::RegisterTasks(env, exports) != napi_ok) return nullptr;
  return exports;
}

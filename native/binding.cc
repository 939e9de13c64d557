// The only file that knows Node-API: it turns calls from TypeScript into calls on the native core.
#include <node_api.h>

#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>

namespace {

struct Timers {
  struct Pending {
    uint32_t token;
    int64_t due;
    uint64_t order;
  };
  std::map<std::pair<int64_t, uint64_t>, double> by_due;
  std::unordered_map<uint64_t, Pending> by_handle;
  uint64_t order = 0;
  uint64_t next_handle = 1;
  int64_t now = 0;
};

double NumberAt(napi_env env, napi_value value) {
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number;
}

napi_value Number(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

template <size_t N>
Timers* Args(napi_env env, napi_callback_info info, napi_value (&args)[N]) {
  size_t count = N;
  void* timers = nullptr;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  napi_get_value_external(env, args[0], &timers);
  return static_cast<Timers*>(timers);
}

napi_value Create(napi_env env, napi_callback_info info) {
  napi_value args[1];
  size_t count = 1;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  auto* timers = new Timers();
  timers->now = static_cast<int64_t>(NumberAt(env, args[0]));
  napi_value external = nullptr;
  napi_create_external(
      env, timers, [](napi_env, void* data, void*) { delete static_cast<Timers*>(data); }, nullptr,
      &external);
  return external;
}

napi_value Schedule(napi_env env, napi_callback_info info) {
  napi_value args[3];
  Timers* timers = Args(env, info, args);
  const auto due = static_cast<int64_t>(NumberAt(env, args[1]));
  const auto token = static_cast<uint32_t>(NumberAt(env, args[2]));
  const uint64_t handle = timers->next_handle++;
  const uint64_t order = timers->order++;
  timers->by_due.emplace(std::make_pair(due, order), static_cast<double>(handle));
  timers->by_handle.emplace(handle, Timers::Pending{token, due, order});
  return Number(env, static_cast<double>(handle));
}

napi_value Cancel(napi_env env, napi_callback_info info) {
  napi_value args[2];
  Timers* timers = Args(env, info, args);
  const auto found = timers->by_handle.find(static_cast<uint64_t>(NumberAt(env, args[1])));
  if (found == timers->by_handle.end()) return Number(env, 0);
  timers->by_due.erase({found->second.due, found->second.order});
  timers->by_handle.erase(found);
  return Number(env, 1);
}

napi_value Reschedule(napi_env env, napi_callback_info info) {
  napi_value args[3];
  Timers* timers = Args(env, info, args);
  const auto found = timers->by_handle.find(static_cast<uint64_t>(NumberAt(env, args[1])));
  if (found == timers->by_handle.end()) return Number(env, 0);
  timers->by_due.erase({found->second.due, found->second.order});
  found->second.due = static_cast<int64_t>(NumberAt(env, args[2]));
  found->second.order = timers->order++;
  timers->by_due.emplace(std::make_pair(found->second.due, found->second.order),
                         static_cast<double>(found->first));
  return Number(env, 1);
}

napi_value Advance(napi_env env, napi_callback_info info) {
  napi_value args[3];
  Timers* timers = Args(env, info, args);
  const auto now = static_cast<int64_t>(NumberAt(env, args[1]));
  void* out = nullptr;
  size_t length = 0;
  napi_get_typedarray_info(env, args[2], nullptr, &length, &out, nullptr, nullptr);
  if (now < timers->now) return Number(env, 0);
  timers->now = now;
  size_t count = 0;
  while (count < length && !timers->by_due.empty()) {
    const auto first = timers->by_due.begin();
    if (first->first.first > now) break;
    const auto found = timers->by_handle.find(static_cast<uint64_t>(first->second));
    static_cast<uint32_t*>(out)[count++] = found->second.token;
    timers->by_handle.erase(found);
    timers->by_due.erase(first);
  }
  return Number(env, static_cast<double>(count));
}

napi_value NextDue(napi_env env, napi_callback_info info) {
  napi_value args[1];
  Timers* timers = Args(env, info, args);
  if (timers->by_due.empty()) return Number(env, 1.0 / 0.0);
  return Number(env, static_cast<double>(timers->by_due.begin()->first.first));
}

napi_value Size(napi_env env, napi_callback_info info) {
  napi_value args[1];
  return Number(env, static_cast<double>(Args(env, info, args)->by_handle.size()));
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"create", nullptr, Create, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"schedule", nullptr, Schedule, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"cancel", nullptr, Cancel, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"reschedule", nullptr, Reschedule, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"advance", nullptr, Advance, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"nextDue", nullptr, NextDue, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"size", nullptr, Size, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
  return exports;
}

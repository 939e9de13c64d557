// Calls from src/timing/task-table.ts and ready-queue.ts into the core.
//
// As in binding.cc: no state per process or environment, everything hangs on the external that
// `create` returns; arguments are checked in TypeScript, but for handles, which are refused here
// when they mean nothing; no exception crosses, and nothing calls back into JavaScript.
//
// Calls that give more than one number put the rest into memory that both sides see (an ArrayBuffer
// of V8, held by the TaskTable), so that nothing is allocated for it:
//
//   control:  [0] f64 counters x 32 (TaskCounters)   [256] f64 registers x 16
//             [384] f64 list of handles, then f64 tasks of verdicts; 4096 each
//             [65920] u32 columns of verdicts: outcome, slot, attempt, type, offset, length; 4096
//             each [164224] u32 columns of other lists: first, second; 4096 each
//
// Verdicts have columns of their own so that they last while JavaScript acts on them, one by one.
//
// Frames that leave are written straight into ArrayBuffers of their own, which can be transferred.
#include "task_binding.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "ready_queue.h"
#include "task_table.h"

namespace millrace {
namespace {

constexpr size_t kListMax = 4096;

struct Control {
  union {
    TaskCounters counters;
    double counter_room[32];
  };
  double registers[16];
  double handles[kListMax];
  double verdict_tasks[kListMax];
  uint32_t outcome[kListMax];
  uint32_t slot[kListMax];
  uint32_t attempt[kListMax];
  uint32_t type[kListMax];
  uint32_t offset[kListMax];
  uint32_t length[kListMax];
  uint32_t first[kListMax];
  uint32_t second[kListMax];
};
static_assert(sizeof(Control) == 384 + 2 * 8 * kListMax + 8 * 4 * kListMax,
              "the layout is shared with task-table.ts");

// What the external points to; outlives the table when that is closed.
struct TableHolder {
  Control* control = nullptr;
  std::unique_ptr<TaskTable> table;
  std::vector<Handle> handles;
  std::vector<TaskTable::Verdict> verdicts;
  std::vector<TaskTable::Ended> ended;
};

// The arguments of a call, read in order; the first is the external.
class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = kArgumentsMax;
    napi_get_cb_info(env, info, &count, args_, nullptr, nullptr);
  }

  template <typename T>
  T* Holder() {
    void* data = nullptr;
    napi_get_value_external(env_, args_[next_++], &data);
    return static_cast<T*>(data);
  }

  double Number() {
    double number = 0;
    napi_get_value_double(env_, args_[next_++], &number);
    return number;
  }

  uint32_t Uint32() {
    uint32_t number = 0;
    napi_get_value_uint32(env_, args_[next_++], &number);
    return number;
  }

  bool Boolean() {
    bool value = false;
    napi_get_value_bool(env_, args_[next_++], &value);
    return value;
  }

  // Anything that is no handle at all becomes 0, which is none.
  Handle TakeHandle() {
    const double number = Number();
    return number >= 1 && number <= 9007199254740991.0 ? static_cast<Handle>(number) : 0;
  }

  Now TakeNow() {
    const double wall = Number();
    const double mono = Number();
    return {wall, mono};
  }

  // Good until the next String.
  Text String() {
    const napi_value value = args_[next_++];
    size_t length = 0;
    char* room = text_;
    napi_get_value_string_utf8(env_, value, room, sizeof(text_), &length);
    if (length + 4 >= sizeof(text_)) {
      napi_get_value_string_utf8(env_, value, nullptr, 0, &length);
      long_text_.resize(length + 1);
      room = &long_text_[0];
      napi_get_value_string_utf8(env_, value, room, length + 1, &length);
    }
    return {room, static_cast<uint32_t>(length)};
  }

  template <typename T>
  const T* Array(size_t* length) {
    void* data = nullptr;
    *length = 0;
    const napi_value value = args_[next_++];
    if (napi_get_typedarray_info(env_, value, nullptr, length, &data, nullptr, nullptr) !=
        napi_ok) {
      *length = 0;
    }
    return static_cast<const T*>(data);
  }

  napi_value Give(double number) {
    napi_value value = nullptr;
    napi_create_double(env_, number, &value);
    return value;
  }
  napi_value Give(Handle handle) { return Give(static_cast<double>(handle)); }
  napi_value GiveBoolean(bool boolean) {
    napi_value value = nullptr;
    napi_get_boolean(env_, boolean, &value);
    return value;
  }
  napi_value GiveString(const char* data, size_t length) {
    napi_value value = nullptr;
    napi_create_string_utf8(env_, data, length, &value);
    return value;
  }

  // A new Uint8Array with a buffer of its own; `data` is null when V8 has no memory for it and has
  // thrown.
  napi_value NewBytes(size_t length, uint8_t** data) {
    void* bytes = nullptr;
    napi_value buffer = nullptr;
    napi_value array = nullptr;
    *data = nullptr;
    if (napi_create_arraybuffer(env_, length, &bytes, &buffer) != napi_ok) return nullptr;
    if (napi_create_typedarray(env_, napi_uint8_array, length, buffer, 0, &array) != napi_ok) {
      return nullptr;
    }
    *data = static_cast<uint8_t*>(bytes);
    return array;
  }
  napi_value GiveBytes(const uint8_t* from, size_t length) {
    uint8_t* data = nullptr;
    const napi_value array = NewBytes(length, &data);
    if (data != nullptr && length > 0) std::memcpy(data, from, length);
    return array;
  }

  napi_env env() const { return env_; }

 private:
  static constexpr size_t kArgumentsMax = 10;
  const napi_env env_;
  napi_value args_[kArgumentsMax] = {};
  size_t next_ = 0;
  char text_[512];
  std::string long_text_;
};

// Copies a list of handles to where JavaScript reads it; the TypeScript side asks for no more than
// fit.
double Publish(TableHolder* holder) {
  const size_t count = std::min(holder->handles.size(), kListMax);
  for (size_t i = 0; i < count; i++) {
    holder->control->handles[i] = static_cast<double>(holder->handles[i]);
  }
  return static_cast<double>(count);
}

// create(control: ArrayBuffer, startMonoMs, ageingMs, executor): table
napi_value Create(napi_env env, napi_callback_info info) {
  napi_value args[4];
  size_t count = 4;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  void* control = nullptr;
  size_t control_bytes = 0;
  napi_get_arraybuffer_info(env, args[0], &control, &control_bytes);
  double start = 0;
  double ageing = 0;
  napi_get_value_double(env, args[1], &start);
  napi_get_value_double(env, args[2], &ageing);
  char executor[256];
  size_t length = 0;
  napi_get_value_string_utf8(env, args[3], executor, sizeof(executor), &length);
  auto holder = std::make_unique<TableHolder>();
  holder->control = static_cast<Control*>(control);
  holder->table = std::make_unique<TaskTable>(&holder->control->counters, start, ageing,
                                              Text{executor, static_cast<uint32_t>(length)});
  napi_value external = nullptr;
  const napi_status status = napi_create_external(
      env, holder.get(),
      [](napi_env, void* data, void*) { delete static_cast<TableHolder*>(data); }, nullptr,
      &external);
  // Fails when the environment is going away; JavaScript then sees undefined and does not go on.
  if (status == napi_ok) holder.release();
  return external;
}

// close(table): frees its memory; no other call may follow
napi_value Close(napi_env env, napi_callback_info info) {
  Call call(env, info);
  call.Holder<TableHolder>()->table.reset();
  return nullptr;
}

// defineType(table, name, place, limit, isJustInTime, perKey, wallMs, monoMs): id
napi_value DefineType(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Text name = call.String();
  TaskTable::TypeToDefine type = {};
  type.place = call.Uint32();
  type.limit = call.Uint32();
  type.is_just_in_time = call.Boolean();
  type.per_key = call.Uint32();
  return call.Give(double{1} * table.DefineType(name, type, call.TakeNow()));
}

// setWeight(table, tenant, weight)
napi_value SetWeight(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Text tenant = call.String();
  table.SetWeight(tenant, call.Number());
  return nullptr;
}

// stopTenant(table, tenant, isStopped)
napi_value StopTenant(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Text tenant = call.String();
  table.StopTenant(tenant, call.Boolean());
  return nullptr;
}

// addCredits(table, type, ofEachTenant, credits, max): how many tenants have less than that;
// no type (2^32 - 1): of all, of each tenant
napi_value AddCredits(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const uint32_t type = call.Uint32();
  const bool of_each_tenant = call.Boolean();
  const double credits = call.Number();
  const double max = call.Number();
  if (of_each_tenant) {
    return call.Give(static_cast<double>(table.AddTenantCredits(type, credits, max)));
  }
  table.AddCredits(type, credits, max);
  return call.Give(0.0);
}

// tenantCredits(table, type, tenant): number; no type: of all
napi_value TenantCredits(napi_env env, napi_callback_info info) {
  Call call(env, info);
  const TaskTable& table = *call.Holder<TableHolder>()->table;
  const uint32_t type = call.Uint32();
  return call.Give(table.TenantCredits(type, call.String()));
}

// spentTenants(table): number
napi_value SpentTenants(napi_env env, napi_callback_info info) {
  Call call(env, info);
  const TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.Give(static_cast<double>(table.spent_tenants()));
}

// typeName(table, type): string, or undefined
napi_value TypeName(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const std::string* name = table.TypeName(call.Uint32());
  return name == nullptr ? nullptr : call.GiveString(name->data(), name->size());
}

// typeState(table, type): number running; registers: average run time, number ready, credits
napi_value TypeState(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const uint32_t type = call.Uint32();
  if (holder->table->TypeName(type) == nullptr) return nullptr;
  holder->control->registers[0] = holder->table->AverageRunMs(type);
  holder->control->registers[1] = static_cast<double>(holder->table->Ready(type));
  holder->control->registers[2] = holder->table->Credits(type);
  return call.Give(double{1} * holder->table->Running(type));
}

// add(table, frame, ref, wallMs, monoMs, dueMonoMs | undefined, hold): handle, or minus an
// IngestError
napi_value Add(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  TaskTable::Ingest segment = {};
  segment.frame = call.Array<uint8_t>(&segment.length);
  segment.ref = call.String();
  const Now now = call.TakeNow();
  segment.due_mono_ms = call.Array<double>(&segment.due_count);
  segment.hold = call.Boolean();
  Handle handle = 0;
  const auto error = table.Add(segment, now, &handle);
  if (error != TaskTable::IngestError::kNone) return call.Give(-static_cast<double>(error));
  return call.Give(handle);
}

// applyOverlay(table, segment, frame): boolean
napi_value ApplyOverlay(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle segment = call.TakeHandle();
  size_t length = 0;
  const auto* frame = call.Array<uint8_t>(&length);
  return call.GiveBoolean(table.ApplyOverlay(segment, frame, length));
}

// resume(table, segment, wallMs, monoMs): number of lost tasks (handles); registers: open tasks,
// their bytes
napi_value Resume(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle segment = call.TakeHandle();
  holder->handles.clear();
  const auto resumed = holder->table->Resume(segment, call.TakeNow(), &holder->handles);
  holder->control->registers[0] = resumed.open;
  holder->control->registers[1] = resumed.open_bytes;
  return call.Give(Publish(holder));
}

// hold(table, segment): boolean
napi_value Hold(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.GiveBoolean(table.Hold(call.TakeHandle()));
}

// shiftWaits(table, segment, byMs)
napi_value ShiftWaits(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle segment = call.TakeHandle();
  table.ShiftWaits(segment, call.Number());
  return nullptr;
}

// release(table, segment): number of watched tasks (handles, and column: their indexes), or -1
// registers: open tasks, their bytes, tasks that stay
napi_value Release(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  TaskTable::Released released;
  if (!holder->table->Release(call.TakeHandle(), &released)) return call.Give(double{-1});
  Control* control = holder->control;
  control->registers[0] = released.open;
  control->registers[1] = released.open_bytes;
  control->registers[2] = released.running;
  // A frame holds no more tasks than fit.
  const size_t count = std::min(released.watched.size(), kListMax);
  for (size_t i = 0; i < count; i++) {
    control->handles[i] = static_cast<double>(released.watched[i].task);
    control->first[i] = released.watched[i].index;
  }
  return call.Give(static_cast<double>(count));
}

// forget(table, task): boolean
napi_value Forget(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.GiveBoolean(table.Forget(call.TakeHandle()));
}

// find(table, ref): handle or 0
napi_value Find(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.Give(table.Find(call.String()));
}

// taskAt(table, segment, index): handle or 0
napi_value TaskAt(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle segment = call.TakeHandle();
  return call.Give(table.TaskAt(segment, call.Uint32()));
}

// drop(table, segment): boolean
napi_value Drop(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.GiveBoolean(table.Drop(call.TakeHandle()));
}

// advance(table, wallMs, monoMs, budget): number of timers that fired
napi_value Advance(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Now now = call.TakeNow();
  return call.Give(static_cast<double>(table.Advance(now, call.Uint32())));
}

// nextDue(table): milliseconds, Infinity if never
napi_value NextDue(napi_env env, napi_callback_info info) {
  Call call(env, info);
  return call.Give(call.Holder<TableHolder>()->table->NextDueMs());
}

// takeExpired(table), takeUnhandled(table): number of handles
napi_value TakeExpired(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  holder->handles.resize(kListMax);
  holder->handles.resize(holder->table->TakeExpired(holder->handles.data(), kListMax));
  return call.Give(Publish(holder));
}

napi_value TakeUnhandled(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  holder->handles.resize(kListMax);
  holder->handles.resize(holder->table->TakeUnhandled(holder->handles.data(), kListMax));
  return call.Give(Publish(holder));
}

// takeable(table, place, alone, max): number
napi_value Takeable(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const uint32_t place = call.Uint32();
  const bool alone = call.Boolean();
  return call.Give(static_cast<double>(table.Takeable(place, alone, call.Uint32())));
}

// claim(table, cut, place, tasksMax, segmentsMax, bytesMax, workMsMax, mode, wallMs, monoMs):
// batch or 0
// registers: tasks, segments, tasks in these, bytes, ClaimEnd
napi_value Claim(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle cut = call.TakeHandle();
  TaskTable::ClaimLimits limits = {};
  limits.place = call.Uint32();
  limits.tasks_max = call.Uint32();
  limits.segments_max = call.Uint32();
  limits.bytes_max = call.Number();
  limits.work_ms_max = call.Number();
  limits.mode = static_cast<TaskTable::ClaimMode>(call.Uint32());
  const auto claimed = holder->table->Claim(cut, limits, call.TakeNow());
  double* registers = holder->control->registers;
  registers[0] = claimed.tasks;
  registers[1] = claimed.segments;
  registers[2] = claimed.segment_tasks;
  registers[3] = claimed.bytes;
  registers[4] = static_cast<double>(claimed.end);
  return call.Give(claimed.batch);
}

// measure(table, batch): the size of its frame; 0 if there is no such batch
napi_value Measure(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.Give(static_cast<double>(table.MeasureBatch(call.TakeHandle())));
}

// launch(table, batch, token, frame: Uint8Array): writes all of the frame, whose size the call
// before measured
napi_value Launch(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle batch = call.TakeHandle();
  const double token = call.Number();
  size_t length = 0;
  auto* frame = const_cast<uint8_t*>(call.Array<uint8_t>(&length));
  table.WriteBatch(batch, token, frame);
  return nullptr;
}

// applyResults(table, batch, frame, wallMs, monoMs): number of verdicts (columns), or -1
napi_value ApplyResults(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle batch = call.TakeHandle();
  size_t length = 0;
  const auto* frame = call.Array<uint8_t>(&length);
  holder->verdicts.clear();
  const bool good =
      holder->table->ApplyResults(batch, frame, length, call.TakeNow(), &holder->verdicts);
  if (!good) return call.Give(double{-1});
  Control* control = holder->control;
  for (size_t i = 0; i < holder->verdicts.size(); i++) {
    const TaskTable::Verdict& verdict = holder->verdicts[i];
    control->verdict_tasks[i] = static_cast<double>(verdict.task);
    control->outcome[i] = verdict.outcome;
    control->slot[i] = verdict.slot;
    control->attempt[i] = verdict.attempt;
    control->type[i] = verdict.type;
    control->offset[i] = verdict.bytes_at;
    control->length[i] = verdict.bytes_length;
  }
  return call.Give(static_cast<double>(holder->verdicts.size()));
}

// endBatch(table, batch): number of lost tasks (handles), or -1
napi_value EndBatch(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  holder->handles.clear();
  const bool good = holder->table->EndBatch(call.TakeHandle(), &holder->handles);
  return call.Give(good ? Publish(holder) : -1);
}

// unclaim(table, batch, wallMs, monoMs): number of tasks that are not ready again (handles), or -1
napi_value Unclaim(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle batch = call.TakeHandle();
  holder->handles.clear();
  const bool good = holder->table->Unclaim(batch, call.TakeNow(), &holder->handles);
  return call.Give(good ? Publish(holder) : -1);
}

// unreported(table, batch): number of slots (column)
napi_value Unreported(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle batch = call.TakeHandle();
  return call.Give(
      static_cast<double>(holder->table->Unreported(batch, holder->control->first, kListMax)));
}

// typesOf(table, batch): number of tasks (column)
napi_value TypesOf(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle batch = call.TakeHandle();
  return call.Give(
      static_cast<double>(holder->table->TypesOf(batch, holder->control->first, kListMax)));
}

// placeOf(table, task): slot or -1; register 0: batch
napi_value PlaceOf(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  Handle batch = 0;
  uint32_t slot = 0;
  if (!holder->table->PlaceOf(call.TakeHandle(), &batch, &slot)) return call.Give(double{-1});
  holder->control->registers[0] = static_cast<double>(batch);
  return call.Give(double{1} * slot);
}

// executorOf(table, task): string, or undefined
napi_value ExecutorOf(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const std::string* executor = table.ExecutorOf(call.TakeHandle());
  return executor == nullptr ? nullptr : call.GiveString(executor->data(), executor->size());
}

// retry(table, task, dueWallMs, dueMonoMs, spent, wallMs, monoMs): boolean
napi_value Retry(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle task = call.TakeHandle();
  const double due_wall_ms = call.Number();
  const double due_mono_ms = call.Number();
  const bool spent = call.Boolean();
  return call.GiveBoolean(table.Retry(task, due_wall_ms, due_mono_ms, spent, call.TakeNow()));
}

// reschedule(table, task, dueWallMs, dueMonoMs, byDate, wallMs, monoMs): a RescheduleAnswer
napi_value Reschedule(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle task = call.TakeHandle();
  const double due_wall_ms = call.Number();
  const double due_mono_ms = call.Number();
  const bool by_date = call.Boolean();
  const auto answer = table.Reschedule(task, due_wall_ms, due_mono_ms, by_date, call.TakeNow());
  return call.Give(static_cast<double>(answer));
}

// redrive(table, task, wallMs, monoMs): boolean
napi_value Redrive(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle task = call.TakeHandle();
  return call.GiveBoolean(table.Redrive(task, call.TakeNow()));
}

// end(table, task, state, bytes, wallMs, monoMs): boolean
napi_value End(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle task = call.TakeHandle();
  const auto state = static_cast<TaskState>(call.Uint32());
  size_t length = 0;
  const auto* bytes = call.Array<uint8_t>(&length);
  return call.GiveBoolean(table.End(task, state, bytes, length, call.TakeNow()));
}

// noteLoss(table, task): losses so far
napi_value NoteLoss(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.Give(double{1} * table.NoteLoss(call.TakeHandle()));
}

// isolate(table, task): boolean
napi_value Isolate(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.GiveBoolean(table.Isolate(call.TakeHandle()));
}

// cancel(table, task, bytes, wallMs, monoMs): CancelAnswer
napi_value Cancel(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle task = call.TakeHandle();
  size_t length = 0;
  const auto* bytes = call.Array<uint8_t>(&length);
  return call.Give(static_cast<double>(table.Cancel(task, bytes, length, call.TakeNow())));
}

// watch(table, task): WatchAnswer
napi_value Watch(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.Give(static_cast<double>(table.Watch(call.TakeHandle())));
}

// unwatch(table, task)
napi_value Unwatch(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  table.Unwatch(call.TakeHandle());
  return nullptr;
}

// view(table, task): boolean; registers: state, flags, priority, attempt, losses, index, type,
// version, due, changed, submitted, expires, payload length, segment
napi_value View(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  TaskTable::TaskView view;
  if (!holder->table->View(call.TakeHandle(), &view)) return call.GiveBoolean(false);
  double* registers = holder->control->registers;
  registers[0] = static_cast<double>(view.state);
  registers[1] = (view.is_settled ? 1 : 0) + (view.is_filed ? 2 : 0) + (view.is_ready ? 4 : 0) +
                 (view.is_cancel_asked ? 8 : 0) + (view.must_be_alone ? 16 : 0) +
                 (view.is_released ? 32 : 0) + (view.is_parked ? 64 : 0);
  registers[2] = view.priority;
  registers[3] = view.attempt;
  registers[4] = view.losses;
  registers[5] = view.index;
  registers[6] = view.type;
  registers[7] = view.version;
  registers[8] = view.due_at_ms;
  registers[9] = view.changed_at_ms;
  registers[10] = view.submitted_at_ms;
  registers[11] = view.expires_at_ms;
  registers[12] = view.payload_length;
  registers[13] = static_cast<double>(view.segment);
  return call.GiveBoolean(true);
}

// bytesOf(table, task, which): payload (0), metadata (1), end (2), tenant (3) as Uint8Array, or
// undefined
napi_value BytesOf(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  TaskTable::TaskView view;
  if (!table.View(call.TakeHandle(), &view)) return nullptr;
  switch (call.Uint32()) {
    case 0: return call.GiveBytes(view.payload, view.payload_length);
    case 1: return call.GiveBytes(view.metadata, view.metadata_length);
    case 2: return call.GiveBytes(view.end, view.end_length);
    default: return call.GiveString(view.tenant->data(), view.tenant->size());
  }
}

// ref(table, segment): string, or undefined
napi_value Ref(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  Text ref = {nullptr, 0};
  if (!table.Ref(call.TakeHandle(), &ref)) return nullptr;
  return call.GiveString(ref.data, ref.length);
}

// viewSegment(table, segment): boolean; registers: tasks, open, has an overlay, is dirty, takes an
// overlay
napi_value ViewSegment(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  TaskTable::SegmentView view = {};
  if (!holder->table->ViewSegment(call.TakeHandle(), &view)) return call.GiveBoolean(false);
  double* registers = holder->control->registers;
  registers[0] = view.tasks;
  registers[1] = view.open;
  registers[2] = view.has_overlay;
  registers[3] = view.is_dirty;
  registers[4] = view.takes_overlay;
  return call.GiveBoolean(true);
}

// beginCut(table): cut
napi_value BeginCut(napi_env env, napi_callback_info info) {
  Call call(env, info);
  return call.Give(call.Holder<TableHolder>()->table->BeginCut());
}

// firstDirty(table): segment or 0
napi_value FirstDirty(napi_env env, napi_callback_info info) {
  Call call(env, info);
  return call.Give(call.Holder<TableHolder>()->table->FirstDirty());
}

// file(table, cut, segment, keepMask, operationsLeft, bytesLeft): the frame of what is kept, or
// undefined registers: good, newly touched, filed, left, dead letters (handles), their bytes,
// complete
napi_value File(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const Handle cut = call.TakeHandle();
  const Handle segment = call.TakeHandle();
  TaskTable::FileLimits limits = {};
  limits.keep_mask = call.Uint32();
  limits.operations_left = call.Number();
  limits.bytes_left = call.Number();
  TaskTable::Filing filing;
  holder->handles.clear();
  double* registers = holder->control->registers;
  registers[0] = holder->table->File(cut, segment, limits, &filing, &holder->handles);
  registers[1] = filing.touched;
  registers[2] = filing.filed;
  registers[3] = filing.left;
  registers[4] = Publish(holder);
  registers[5] = filing.dead_letter_bytes;
  registers[6] = filing.complete;
  if (filing.frame_bytes == 0) return nullptr;
  uint8_t* data = nullptr;
  const napi_value frame = call.NewBytes(filing.frame_bytes, &data);
  if (data != nullptr) holder->table->WriteFiled(data);
  return frame;
}

// deadLetter(table, task): the value, or undefined
napi_value DeadLetter(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle task = call.TakeHandle();
  const size_t length = table.MeasureDeadLetter(task);
  if (length == 0) return nullptr;
  uint8_t* data = nullptr;
  const napi_value value = call.NewBytes(length, &data);
  if (data != nullptr) table.WriteDeadLetter(task, data);
  return value;
}

// overlay(table, segment): the frame, or undefined
napi_value Overlay(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  const Handle segment = call.TakeHandle();
  const size_t length = table.MeasureOverlay(segment);
  if (length == 0) return nullptr;
  uint8_t* data = nullptr;
  const napi_value frame = call.NewBytes(length, &data);
  if (data != nullptr) table.WriteOverlay(segment, data);
  return frame;
}

// touched(table, cut, from): number of handles, or -1
napi_value Touched(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const auto* touched = holder->table->Touched(call.TakeHandle());
  if (touched == nullptr) return call.Give(double{-1});
  const size_t from = std::min<size_t>(call.Uint32(), touched->size());
  const size_t count = std::min(touched->size() - from, kListMax);
  for (size_t i = 0; i < count; i++) {
    holder->control->handles[i] = static_cast<double>((*touched)[from + i]);
  }
  return call.Give(static_cast<double>(count));
}

// settle(table, cut): bytes of the watched tasks' ends one after another, or undefined for a cut
// that does not exist registers: tasks, bytes that are free again, watched tasks. Those are fetched
// by takeEnded.
napi_value Settle(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  TaskTable::Settled settled;
  holder->ended.clear();
  if (!holder->table->Settle(call.TakeHandle(), &settled, &holder->ended)) return nullptr;
  double* registers = holder->control->registers;
  registers[0] = settled.tasks;
  registers[1] = settled.bytes;
  registers[2] = static_cast<double>(holder->ended.size());
  size_t length = 0;
  for (const auto& ended : holder->ended) length += ended.end_length;
  uint8_t* data = nullptr;
  const napi_value bytes = call.NewBytes(length, &data);
  if (data != nullptr) {
    for (const auto& ended : holder->ended) {
      if (ended.end_length > 0) std::memcpy(data, ended.end, ended.end_length);
      data += ended.end_length;
    }
  }
  holder->table->FreeEnds();
  return bytes;
}

// takeEnded(table, from): number of watched tasks of the last settle, listed from there
// columns: handles, states, lengths
napi_value TakeEnded(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  const size_t from = std::min<size_t>(call.Uint32(), holder->ended.size());
  const size_t count = std::min(holder->ended.size() - from, kListMax);
  for (size_t i = 0; i < count; i++) {
    const TaskTable::Ended& ended = holder->ended[from + i];
    holder->control->handles[i] = static_cast<double>(ended.task);
    holder->control->first[i] = static_cast<uint32_t>(ended.state);
    holder->control->second[i] = ended.end_length;
  }
  if (from + count == holder->ended.size()) std::vector<TaskTable::Ended>().swap(holder->ended);
  return call.Give(static_cast<double>(count));
}

// revert(table, cut): boolean
napi_value Revert(napi_env env, napi_callback_info info) {
  Call call(env, info);
  TaskTable& table = *call.Holder<TableHolder>()->table;
  return call.GiveBoolean(table.Revert(call.TakeHandle()));
}

// bytes(table): number
napi_value Bytes(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<TableHolder>();
  return call.Give(static_cast<double>(holder->table->bytes() + sizeof(Control)));
}

// check(table): whether the invariants hold; always in builds without the checker
napi_value Check(napi_env env, napi_callback_info info) {
  Call call(env, info);
  return call.GiveBoolean(call.Holder<TableHolder>()->table->Check());
}

// ---- ReadyQueue by itself
// -----------------------------------------------------------------------------------------

// Commands, 24 bytes each:  [0] f64 at  [8] u32 token  [12] u32 tenant  [16] i32 priority  [20] u32
// zero
struct PushCommand {
  double at_ms;
  uint32_t token;
  uint32_t tenant;
  int32_t priority;
  uint32_t zero;
};
static_assert(sizeof(PushCommand) == 24, "the layout is shared with ready-queue.ts");

struct QueueHolder {
  const PushCommand* commands = nullptr;
  std::unique_ptr<ReadyQueue> queue;
};

// readyCreate(commands: ArrayBuffer, ageingMs): queue
napi_value ReadyCreate(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t count = 2;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  void* commands = nullptr;
  size_t length = 0;
  napi_get_arraybuffer_info(env, args[0], &commands, &length);
  double ageing = 0;
  napi_get_value_double(env, args[1], &ageing);
  auto holder = std::make_unique<QueueHolder>();
  holder->commands = static_cast<const PushCommand*>(commands);
  holder->queue = std::make_unique<ReadyQueue>(ageing);
  holder->queue->AddType(ReadyQueue::kNoLimit);
  napi_value external = nullptr;
  const napi_status status = napi_create_external(
      env, holder.get(),
      [](napi_env, void* data, void*) { delete static_cast<QueueHolder*>(data); }, nullptr,
      &external);
  if (status == napi_ok) holder.release();
  return external;
}

void Flush(QueueHolder* holder, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    const PushCommand& command = holder->commands[i];
    holder->queue->Push(0, static_cast<int16_t>(command.priority), command.tenant, command.token,
                        command.at_ms);
  }
}

// readyFlush(queue, count): takes in so many commands
napi_value ReadyFlush(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<QueueHolder>();
  Flush(holder, call.Uint32());
  return nullptr;
}

// readyTake(queue, commands, out: Uint32Array): number of tokens written
napi_value ReadyTake(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<QueueHolder>();
  Flush(holder, call.Uint32());
  size_t capacity = 0;
  auto* out = const_cast<uint32_t*>(call.Array<uint32_t>(&capacity));
  size_t count = 0;
  ReadyQueue::Head head;
  while (count < capacity && holder->queue->Peek(&head)) {
    out[count++] = head.token;
    holder->queue->Take(head);
    holder->queue->Release(head.type);
  }
  return call.Give(static_cast<double>(count));
}

// readySetWeight(queue, tenant, weight)
napi_value ReadySetWeight(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<QueueHolder>();
  const uint32_t tenant = call.Uint32();
  holder->queue->SetWeight(tenant, call.Number());
  return nullptr;
}

// readyTenants(queue, used: Uint32Array): sets used[tenant] to 1 for each tenant the queue knows
napi_value ReadyTenants(napi_env env, napi_callback_info info) {
  Call call(env, info);
  auto* holder = call.Holder<QueueHolder>();
  size_t length = 0;
  auto* used = const_cast<uint32_t*>(call.Array<uint32_t>(&length));
  holder->queue->ForEachTenant([&](uint32_t tenant) {
    if (tenant < length) used[tenant] = 1;
  });
  return nullptr;
}

// readyBytes(queue): number
napi_value ReadyBytes(napi_env env, napi_callback_info info) {
  Call call(env, info);
  return call.Give(static_cast<double>(call.Holder<QueueHolder>()->queue->bytes()));
}

// readyClose(queue): frees its memory; no other call may follow
napi_value ReadyClose(napi_env env, napi_callback_info info) {
  Call call(env, info);
  call.Holder<QueueHolder>()->queue.reset();
  return nullptr;
}

napi_status DefineObject(napi_env env, napi_value exports, const char* name,
                         const napi_property_descriptor* functions, size_t count) {
  napi_value object = nullptr;
  napi_status status = napi_create_object(env, &object);
  if (status == napi_ok) status = napi_define_properties(env, object, count, functions);
  return status == napi_ok ? napi_set_named_property(env, exports, name, object) : status;
}

}  // namespace

napi_status RegisterTasks(napi_env env, napi_value exports) {
  const auto function = [](const char* name, napi_callback callback) {
    return napi_property_descriptor{name,    nullptr, callback,        nullptr,
                                    nullptr, nullptr, napi_enumerable, nullptr};
  };
  const napi_property_descriptor tasks[] = {
      function("create", Create),
      function("close", Close),
      function("defineType", DefineType),
      function("setWeight", SetWeight),
      function("stopTenant", StopTenant),
      function("addCredits", AddCredits),
      function("tenantCredits", TenantCredits),
      function("spentTenants", SpentTenants),
      function("typeName", TypeName),
      function("typeState", TypeState),
      function("add", Add),
      function("applyOverlay", ApplyOverlay),
      function("resume", Resume),
      function("hold", Hold),
      function("shiftWaits", ShiftWaits),
      function("release", Release),
      function("forget", Forget),
      function("find", Find),
      function("taskAt", TaskAt),
      function("drop", Drop),
      function("advance", Advance),
      function("nextDue", NextDue),
      function("takeExpired", TakeExpired),
      function("takeUnhandled", TakeUnhandled),
      function("takeable", Takeable),
      function("claim", Claim),
      function("measure", Measure),
      function("launch", Launch),
      function("applyResults", ApplyResults),
      function("endBatch", EndBatch),
      function("unclaim", Unclaim),
      function("unreported", Unreported),
      function("typesOf", TypesOf),
      function("placeOf", PlaceOf),
      function("executorOf", ExecutorOf),
      function("retry", Retry),
      function("reschedule", Reschedule),
      function("redrive", Redrive),
      function("end", End),
      function("noteLoss", NoteLoss),
      function("isolate", Isolate),
      function("cancel", Cancel),
      function("watch", Watch),
      function("unwatch", Unwatch),
      function("view", View),
      function("bytesOf", BytesOf),
      function("ref", Ref),
      function("viewSegment", ViewSegment),
      function("beginCut", BeginCut),
      function("firstDirty", FirstDirty),
      function("file", File),
      function("deadLetter", DeadLetter),
      function("overlay", Overlay),
      function("touched", Touched),
      function("settle", Settle),
      function("takeEnded", TakeEnded),
      function("revert", Revert),
      function("bytes", Bytes),
      function("check", Check),
  };
  const napi_property_descriptor ready[] = {
      function("create", ReadyCreate),   function("flush", ReadyFlush),
      function("take", ReadyTake),       function("setWeight", ReadySetWeight),
      function("tenants", ReadyTenants), function("bytes", ReadyBytes),
      function("close", ReadyClose),
  };
  const napi_status status =
      DefineObject(env, exports, "tasks", tasks, sizeof(tasks) / sizeof(tasks[0]));
  if (status != napi_ok) return status;
  return DefineObject(env, exports, "ready", ready, sizeof(ready) / sizeof(ready[0]));
}

}  // namespace millrace

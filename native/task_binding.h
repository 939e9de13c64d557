// The Node-API face of TaskTable and ReadyQueue; see task_binding.cc.
#ifndef MILLRACE_NATIVE_TASK_BINDING_H_
#define MILLRACE_NATIVE_TASK_BINDING_H_

#include <node_api.h>

namespace millrace {

// Puts the objects `tasks` and `ready` into the addon's exports.
napi_status RegisterTasks(napi_env env, napi_value exports);

}  // namespace millrace

#endif  // MILLRACE_NATIVE_TASK_BINDING_H_

// One rank's place in a group, as a JavaScript object (src/native/addon.ts, NativeCommunicator).
#pragma once
#include <napi.h>

#include <exception>
#include <functional>
#include <memory>

#include "addon/call_thread.h"
#include "comm/communicator.h"

namespace raylite {

/// What such an object owns: every communicator has a thread of its own for calls that JavaScript makes.
struct CommunicatorParts {
  std::shared_ptr<Communicator> communicator;
  std::shared_ptr<CallThread> thread;
};

/// Its class; the constructor takes an External of CommunicatorParts, which it copies.
Napi::Function define_communicator(Napi::Env env);
/// Has `work` done on the thread of the communicator `object`, behind what it was asked before; `keep` stays until then.
Napi::Value call_communicator(const Napi::Value& object, const Napi::Object& keep, std::function<void(Communicator&)> work);
/// An error of a group as JavaScript sees it: code COMM, and the rank where one is known to be at fault.
Napi::Error comm_error(Napi::Env env, std::exception_ptr thrown);

}  // namespace raylite

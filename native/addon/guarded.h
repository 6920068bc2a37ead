// Methods whose errors are the engine's, as JavaScript sees them: an Error with the code of the EngineError.
#pragma once
#include <napi.h>

#include <functional>
#include <new>

#include "addon/arguments.h"
#include "core/error.h"

namespace raylite {

/// Runs `body`, turning the engine's errors into JavaScript's.
template <class Body>
Napi::Value guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const EngineError& error) {
    throw coded_error(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw coded_error(env, "ENGINE", "out of memory");
  }
}

inline Napi::Function method(Napi::Env env, const char* name, std::function<Napi::Value(const Napi::CallbackInfo&)> body) {
  return Napi::Function::New(env, [body](const Napi::CallbackInfo& info) { return guarded(info.Env(), [&] { return body(info); }); }, name);
}

}  // namespace raylite

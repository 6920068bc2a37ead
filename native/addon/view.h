// External ArrayBuffers: what they keep alive, and who hears when they are collected.
#pragma once
#include <napi.h>

#include <memory>

namespace raylite {

/// What one external ArrayBuffer holds until it is collected.
template <class Memory>
struct View {
  Memory memory;
  Napi::FunctionReference on_release;  // may be empty
};

// Runs on the JavaScript thread, after the collection or while the environment is torn down.
template <class Memory>
void release_view(Napi::Env env, void*, View<Memory>* view) {
  const std::unique_ptr<View<Memory>> owned(view);
  if (view->on_release.IsEmpty()) return;
  const Napi::HandleScope scope(env);
  try {
    view->on_release.Call({});
  } catch (const Napi::Error& error) {
    // A throwing callback has no caller: it is an uncaught exception. During teardown JavaScript cannot run at all,
    // and there is nobody left to tell.
    napi_fatal_exception(env, error.Value());
  }
}

}  // namespace raylite

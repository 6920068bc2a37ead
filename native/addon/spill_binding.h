// What of the store is done off the JavaScript thread, or with memory outside of the arena. For store_binding.cpp.
#pragma once
#include <napi.h>

#include <memory>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "store/arena.h"
#include "store/aside.h"
#include "store/spill_file.h"

namespace raylite {

/// Runs `work` and turns StoreError into a JavaScript error with code "STORE".
template <typename Work>
auto with_store_errors(Napi::Env env, Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const StoreError& error) {
    throw coded_error(env, "STORE", error.what());
  }
}

/// A promise of the checksums of parts that are written to `fd`, which stays open until then.
Napi::Value spill_later(Napi::Env env, int fd, std::shared_ptr<Arena> arena, std::vector<SpillPart> parts);
/// mapFile of src/native/addon.ts.
Napi::Value map_file_later(const Napi::CallbackInfo& info);

/// NativeAside of src/native/addon.ts.
class AsideObject : public Napi::ObjectWrap<AsideObject> {
 public:
  static void bind(Napi::Env env, Napi::Object exports);
  explicit AsideObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<AsideObject>(info), aside_(std::make_unique<Aside>()) {
    info.This().As<Napi::Object>().TypeTag(&kTag);
  }
  /// Throws Napi::TypeError for anything else, and what is freed.
  static Aside& of(const Napi::Value& value);

 private:
  static const napi_type_tag kTag;
  void set(const Napi::CallbackInfo& info);
  void free(const Napi::CallbackInfo&) { aside_.reset(); }

  std::unique_ptr<Aside> aside_;  // null once freed
};

}  // namespace raylite

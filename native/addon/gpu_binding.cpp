// The GPUs of a machine as the driver sees them, as JavaScript objects (src/native/addon.ts, NativeGpus).
#include "addon/arguments.h"
#include "addon/bindings.h"
#include "gpu/nvml.h"

namespace raylite {

namespace {

Napi::Object state_object(Napi::Env env, const GpuState& state) {
  const auto object = Napi::Object::New(env);
  const auto number = [&](const char* name, double value) { object.Set(name, Napi::Number::New(env, value)); };
  const auto known = [&](const char* name, double value) { object.Set(name, value < 0 ? env.Null() : Napi::Number::New(env, value)); };
  object.Set("uuid", Napi::String::New(env, state.uuid));
  object.Set("name", Napi::String::New(env, state.name));
  number("memoryBytes", static_cast<double>(state.memory_bytes));
  number("usedBytes", static_cast<double>(state.used_bytes));
  known("busyPercent", state.busy_percent);
  known("celsius", state.celsius);
  known("eccErrors", static_cast<double>(state.ecc_errors));
  number("lastXid", static_cast<double>(state.last_xid));
  return object;
}

Napi::Value open_gpu_monitor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  try {
    const auto held = std::make_shared<std::unique_ptr<Nvml>>(std::make_unique<Nvml>(string_of(info[0], "library")));
    const auto object = Napi::Object::New(env);
    object.Set("look", Napi::Function::New(env, [held](const Napi::CallbackInfo& call) {
      if (!*held) throw coded_error(call.Env(), "GPU", "the monitor of GPUs was disposed");
      const std::vector<GpuState> states = (*held)->look();
      const auto list = Napi::Array::New(call.Env(), states.size());
      for (std::uint32_t i = 0; i < states.size(); i++) list.Set(i, state_object(call.Env(), states[i]));
      return list;
    }));
    object.Set("dispose", Napi::Function::New(env, [held](const Napi::CallbackInfo&) { held->reset(); }));
    return object;
  } catch (const NvmlError& error) {
    throw coded_error(env, "GPU", error.what());
  }
}

}  // namespace

void bind_gpu(Napi::Env env, Napi::Object exports) {
  exports.Set("openGpuMonitor", Napi::Function::New(env, open_gpu_monitor));
}

}  // namespace raylite

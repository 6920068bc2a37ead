// Programs as JavaScript objects (src/native/addon.ts, NativeProgram): a plan bound to buffers, and its runs.
#include <algorithm>
#include <memory>
#include <utility>

#include "addon/bindings.h"
#include "addon/guarded.h"
#include "addon/open_device.h"
#include "core/program.h"

namespace raylite {

namespace {

/// Starts a run and returns its promise. The threads of the executor hand the outcome to the event loop.
Napi::Value run_program(Napi::Env env, const LoadedProgram& loaded, const RunOptions& options) {
  if (!loaded.program) throw EngineError("ENGINE", "the program was disposed");
  Device& device = loaded.device->live();
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  auto settle = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "raylite run", 0, 1);
  const auto done = [settle, deferred, options](const Outcome& result) mutable {
    auto* outcome = new Outcome(result);
    const napi_status status = settle.BlockingCall(outcome, [deferred, options](Napi::Env env, Napi::Function, Outcome* raw) {
      const std::unique_ptr<Outcome> outcome(raw);
      if (!outcome->code.empty()) {
        const Napi::Error error = coded_error(env, outcome->code.c_str(), outcome->message);
        if (outcome->code == "COMM") error.Value().Set("rank", Napi::Number::New(env, outcome->rank));
        deferred->Reject(error.Value());
      } else if (options.check && outcome->finding.instruction >= 0) {
        Napi::Object finding = Napi::Object::New(env);
        finding.Set("instruction", static_cast<double>(outcome->finding.instruction));
        finding.Set("message", outcome->finding.message);
        deferred->Resolve(finding);
      } else if (options.check) {
        deferred->Resolve(env.Null());
      } else if (options.profile) {
        Napi::Float64Array seconds = Napi::Float64Array::New(env, outcome->seconds.size());
        std::copy(outcome->seconds.begin(), outcome->seconds.end(), seconds.Data());
        deferred->Resolve(seconds);
      } else {
        deferred->Resolve(env.Undefined());
      }
    });
    if (status != napi_ok) delete outcome;  // the environment is ending: nobody waits
    settle.Release();
  };
  try {
    device.start(loaded.program, options, done);
  } catch (...) {
    settle.Release();
    throw;
  }
  return deferred->Promise();
}

Napi::Object program_object(Napi::Env env, std::shared_ptr<LoadedProgram> loaded) {
  Napi::Object object = Napi::Object::New(env);
  const auto runs = [&](const char* name, auto options_of) {
    object.Set(name, method(env, name, [loaded, options_of](const Napi::CallbackInfo& info) {
                 return run_program(info.Env(), *loaded, options_of(info));
               }));
  };
  runs("run", [](const Napi::CallbackInfo&) { return RunOptions{}; });
  runs("profile", [](const Napi::CallbackInfo&) { return RunOptions{true, false, 0}; });
  runs("check", [](const Napi::CallbackInfo&) { return RunOptions{false, true, 0}; });
  runs("jitter", [](const Napi::CallbackInfo& info) {
    return RunOptions{false, false, static_cast<std::uint32_t>(integer_of(info[0], "seed", 1, UINT32_MAX))};
  });
  double workspace_bytes = 0;
  for (const auto& workspace : loaded->program->workspaces) workspace_bytes += workspace ? static_cast<double>(workspace->bytes()) : 0;
  object.Set("workspaceBytes", workspace_bytes);
  object.Set("dispose", method(env, "dispose", [loaded](const Napi::CallbackInfo& info) {
               loaded->program.reset();  // a run in progress holds it to its end
               return info.Env().Undefined();
             }));
  return object;
}

}  // namespace

Napi::Value load(const Napi::CallbackInfo& info, const std::shared_ptr<OpenDevice>& device) {
  const Napi::Env env = info.Env();
  device->live();
    const auto plan = bytes_of(info[0], "plan");
  const auto ids = array_of(info[1], "buffers");
  const auto groups = array_of(info[2], "communicators");
  std::vector<std::shared_ptr<Memory>> memories;
  for (std::uint32_t i = 0; i < ids.Length(); i++) {
    memories.push_back(device->buffer(static_cast<std::uint32_t>(integer_of(ids.Get(i), "buffers", 0, UINT32_MAX))).memory);
  }
  std::vector<std::shared_ptr<Communicator>> communicators;
  for (std::uint32_t i = 0; i < groups.Length(); i++) {
    communicators.push_back(groups.Get(i).IsNull() ? nullptr : communicator_of(groups.Get(i)));
  }
  std::vector<std::shared_ptr<SwapFile>> files;
  if (info[3].IsArray()) {
    const auto given = info[3].As<Napi::Array>();
    for (std::uint32_t i = 0; i < given.Length(); i++) {
      const Napi::Value file = given.Get(i);
      files.push_back(file.IsNull() ? nullptr : swap_file_of(file));
    }
  }
  auto program = load_program(plan.Data(), plan.ByteLength(), std::move(memories), std::move(communicators), std::move(files),
                              device->live());
  const auto loaded = std::make_shared<LoadedProgram>(LoadedProgram{device, std::move(program)});
  auto& programs = device->programs;
  programs.erase(std::remove_if(programs.begin(), programs.end(), [](const auto& known) { return known.expired(); }), programs.end());
  programs.push_back(loaded);
  return program_object(env, loaded);
}

}  // namespace raylite

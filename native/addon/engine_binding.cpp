// What the engine offers without a device (src/native/addon.ts, NativeEngine), and how devices are opened.
#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "addon/bindings.h"
#include "addon/guarded.h"
#include "addon/open_device.h"
#include "core/cpu_device.h"
#include "core/cuda_device.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "core/registry.h"

namespace raylite {

namespace {

Napi::Value engine_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<std::string> names = op_names();
  const Napi::Array ops = Napi::Array::New(env, names.size());
  for (std::size_t i = 0; i < names.size(); i++) ops.Set(static_cast<std::uint32_t>(i), names[i]);
  Napi::Object result = Napi::Object::New(env);
  result.Set("isa", best_isa());
  result.Set("ops", ops);
  result.Set("cores", Napi::Number::New(env, std::thread::hardware_concurrency()));
  return result;
}

Napi::Value create_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto options = object_of(info[0], "options");
  const Napi::Value isa = options.Get("isa");
  if (!isa.IsNull() && !isa.IsString()) throw Napi::TypeError::New(env, "isa: expected null, \"scalar\", \"avx2\" or \"avx512\"");
  const Napi::Value pin = options.Get("pin");
  if (!pin.IsBoolean()) throw Napi::TypeError::New(env, "pin: expected a boolean");
  const int threads = static_cast<int>(integer_of(options.Get("threads"), "threads", 1, 1024));
  const Kernels& kernels = kernels_of(isa.IsNull() ? best_isa() : isa.As<Napi::String>().Utf8Value());
  auto device = std::make_shared<CpuDevice>(threads, pin.As<Napi::Boolean>().Value(), kernels);
  return device_object(env, std::make_shared<OpenDevice>(std::move(device)));
}

std::string path_argument(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  if (!value.IsNull() && !value.IsString()) throw Napi::TypeError::New(options.Env(), std::string(name) + ": expected a path or null");
  return value.IsNull() ? "" : value.As<Napi::String>().Utf8Value();
}

Napi::Value create_cuda_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto options = object_of(info[0], "options");
  CudaOptions wanted;
  wanted.library = path_argument(options, "library");
  wanted.cublas_lt = path_argument(options, "cublasLt");
  wanted.nccl = path_argument(options, "nccl");
  wanted.index = static_cast<int>(integer_of(options.Get("index"), "index", 0, 1023));
  return device_object(env, std::make_shared<OpenDevice>(std::make_shared<CudaDevice>(wanted)));
}

/// What the library of a path sees; nothing of it throws, since machines without a GPU are the normal case.
Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto result = Napi::Object::New(env);
  const auto devices = Napi::Array::New(env);
  result.Set("devices", devices);
  result.Set("reason", env.Null());
  try {
    const CudaApi& api = cuda_library(info[0].As<Napi::String>().Utf8Value());
    CudaFailure failure{};
    const int count = api.device_count(&failure);
    if (count == 0) result.Set("reason", Napi::String::New(env, failure.message));
    for (int i = 0; i < count; i++) {
      CudaDescription found{};
      if (!api.describe(i, &found, &failure)) continue;
      const auto device = Napi::Object::New(env);
      device.Set("name", Napi::String::New(env, found.name));
      device.Set("memoryBytes", Napi::Number::New(env, static_cast<double>(found.memory_bytes)));
      device.Set("capability", Napi::String::New(env, std::to_string(found.major) + "." + std::to_string(found.minor)));
      device.Set("processors", Napi::Number::New(env, found.processors));
      devices.Set(devices.Length(), device);
    }
  } catch (const EngineError& error) {
    result.Set("reason", Napi::String::New(env, error.what()));
  }
  return result;
}

/// Fills a Float32Array with normal numbers: value i depends on the key and i alone, not on `threads`.
Napi::Value fill_normal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
    throw Napi::TypeError::New(env, "values: expected a Float32Array");
  }
  auto values = info[0].As<Napi::Float32Array>();
  const auto key0 = static_cast<std::uint32_t>(integer_of(info[1], "key0", 0, UINT32_MAX));
  const auto key1 = static_cast<std::uint32_t>(integer_of(info[2], "key1", 0, UINT32_MAX));
  const auto std_of = info[3].IsNumber() ? info[3].As<Napi::Number>().FloatValue() : -1.0f;
  if (!(std_of >= 0)) throw Napi::TypeError::New(env, "std: expected a number of at least 0");
  const int wanted = static_cast<int>(integer_of(info[4], "threads", 1, 1024));
  const auto count = static_cast<std::int64_t>(values.ElementLength());
  const std::int64_t blocks = (count + 63) / 64;
  const int threads = count < (1 << 16) ? 1 : wanted;
  const Kernels& kernels = kernels_of(info[5].IsString() ? info[5].As<Napi::String>().Utf8Value() : best_isa());
  float* data = values.Data();
  run_parallel(threads, [&](int index) {
    const std::int64_t begin = blocks * index / threads * 64;
    const std::int64_t end = std::min(count, blocks * (index + 1) / threads * 64);
    kernels.fill_normal(data, begin, end, key0, key1, std_of);
  });
  return env.Undefined();
}

/// GFLOP/s of one core of this machine for an instruction set and a type; blocks for `seconds`.
Napi::Value measure_peak(const Napi::CallbackInfo& info) {
  const std::string isa = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : best_isa();
  const double seconds = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : 0.2;
  const bool is_bf16 = info[2].IsString() && info[2].As<Napi::String>().Utf8Value() == "bf16";
  return Napi::Number::New(info.Env(), is_bf16 ? measure_pair_peak(isa, seconds) : kernels_of(isa).measure_peak(seconds));
}

}  // namespace

void bind_engine(Napi::Env env, Napi::Object exports) {
  exports.Set("engineInfo", method(env, "engineInfo", engine_info));
  exports.Set("createDevice", method(env, "createDevice", create_device));
  exports.Set("createCudaDevice", method(env, "createCudaDevice", create_cuda_device));
  exports.Set("cudaInfo", method(env, "cudaInfo", cuda_info));
  exports.Set("fillNormal", method(env, "fillNormal", fill_normal));
  exports.Set("measurePeak", method(env, "measurePeak", measure_peak));
}

}  // namespace raylite

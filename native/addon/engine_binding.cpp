// What the engine offers without a device (src/native/addon.ts, NativeEngine), and how devices are opened.
#include <algorithm>
#include <cmath>
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

const Kernels& kernels_option(const Napi::Object& options) {
  const Napi::Value isa = options.Get("isa");
  if (!isa.IsNull() && !isa.IsString()) throw Napi::TypeError::New(options.Env(), "isa: expected null, \"scalar\", \"avx2\" or \"avx512\"");
  return kernels_of(isa.IsNull() ? best_isa() : isa.As<Napi::String>().Utf8Value());
}

int threads_option(const Napi::Object& options) { return static_cast<int>(integer_of(options.Get("threads"), "threads", 1, 1024)); }

Napi::Value create_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto options = object_of(info[0], "options");
  const Napi::Value pin = options.Get("pin");
  if (!pin.IsBoolean()) throw Napi::TypeError::New(env, "pin: expected a boolean");
  auto device = std::make_shared<CpuDevice>(threads_option(options), pin.As<Napi::Boolean>().Value(), kernels_option(options));
  return device_object(env, std::make_shared<OpenDevice>(std::move(device)));
}

std::string path_argument(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  if (!value.IsNull() && !value.IsString()) throw Napi::TypeError::New(options.Env(), std::string(name) + ": expected a path or null");
  return value.IsNull() ? "" : value.As<Napi::String>().Utf8Value();
}

CudaOptions cuda_options_of(const Napi::Value& value) {
  const auto options = object_of(value, "options");
  CudaOptions wanted;
  wanted.library = path_argument(options, "library");
  wanted.cublas_lt = path_argument(options, "cublasLt");
  wanted.nccl = path_argument(options, "nccl");
  wanted.cudnn = path_argument(options, "cudnn");
  wanted.cudart = path_argument(options, "cudart");
  wanted.nvrtc = path_argument(options, "nvrtc");
  wanted.nvrtc_builtins = path_argument(options, "nvrtcBuiltins");
  wanted.index = static_cast<int>(integer_of(options.Get("index"), "index", 0, 1023));
  const std::string attention = string_of(options.Get("attention"), "attention");
  if (attention == "own") wanted.attention = AttentionBy::kOwn;
  else if (attention == "cudnn") wanted.attention = AttentionBy::kLibrary;
  else if (attention != "measured") throw Napi::TypeError::New(value.Env(), "attention: expected \"measured\", \"own\" or \"cudnn\"");
  return wanted;
}

Napi::Value create_cuda_device(const Napi::CallbackInfo& info) {
  const auto on_host = object_of(info[1], "host");
  auto host = std::make_shared<HostTeam>(threads_option(on_host), kernels_option(on_host));
  return device_object(info.Env(), std::make_shared<OpenDevice>(std::make_shared<CudaDevice>(cuda_options_of(info[0]), std::move(host))));
}

bool flag_of(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsBoolean()) throw Napi::TypeError::New(object.Env(), std::string(name) + ": expected a boolean");
  return value.As<Napi::Boolean>().Value();
}

Napi::Value plan_cuda_attention(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const CudaOptions options = cuda_options_of(info[0]);
  const std::string properties = string_of(info[1], "properties");
  const auto given = object_of(info[2], "shape");
  const auto count = [&](const char* name, double min) { return static_cast<std::int64_t>(integer_of(given.Get(name), name, min, 1 << 30)); };
  const std::string type = string_of(given.Get("type"), "type");
  if (type != "bf16" && type != "f16") throw Napi::TypeError::New(env, "type: expected \"bf16\" or \"f16\"");
  CudaAttentionShape shape{};
  shape.type = type == "bf16" ? DType::kBF16 : DType::kF16;
  shape.is_backward = flag_of(given, "isBackward"), shape.causal = flag_of(given, "isCausal");
  shape.segments = count("segments", 1), shape.rows = count("rows", 1), shape.heads = count("heads", 1), shape.kv_heads = count("kvHeads", 1);
  shape.head_dim = count("headDim", 1), shape.window = count("window", 0);
  const std::int64_t c = shape.head_dim, q_width = shape.heads * c, kv_width = shape.kv_heads * c, whole = q_width + 2 * kv_width;
  const std::string layout = string_of(given.Get("layout"), "layout");
  if (layout == "fused") shape.q = {whole, 0, c}, shape.k = {whole, q_width, c}, shape.v = {whole, q_width + kv_width, c};
  else if (layout == "interleaved") shape.q = {whole, 0, 3 * c}, shape.k = {whole, c, 3 * c}, shape.v = {whole, 2 * c, 3 * c};
  else if (layout == "apart") shape.q = {q_width, 0, c}, shape.k = shape.v = {kv_width, 0, c};
  else throw Napi::TypeError::New(env, "layout: expected \"apart\", \"fused\" or \"interleaved\"");
  shape.scale = 1.0f / std::sqrt(static_cast<float>(c));
  const CudaLibraries libraries = options.libraries();
  std::uint64_t workspace = 0;
  CudaFailure failure{};
  if (!cuda_library(options.library).plan_attention(&libraries, properties.c_str(), &shape, &workspace, &failure)) {
    throw coded_error(env, failure.code, failure.message);
  }
  return Napi::Number::New(env, static_cast<double>(workspace));
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
  exports.Set("planCudaAttention", method(env, "planCudaAttention", plan_cuda_attention));
  exports.Set("cudaInfo", method(env, "cudaInfo", cuda_info));
  exports.Set("fillNormal", method(env, "fillNormal", fill_normal));
  exports.Set("measurePeak", method(env, "measurePeak", measure_peak));
}

}  // namespace raylite

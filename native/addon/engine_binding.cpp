// The engine as JavaScript objects (src/native/addon.ts, NativeEngine): checks arguments, calls core, settles promises.
// Objects are plain: their methods hold what they need, so that memory lives as long as anyone can reach it.
#include <algorithm>
#include <cmath>
#include <thread>

#include <unistd.h>

#include "addon/bindings.h"
#include "addon/open_device.h"
#include "addon/shared_memory.h"
#include "core/error.h"
#include "core/cpu_device.h"
#include "core/cuda_device.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "core/program.h"
#include "core/registry.h"
#include "core/tensor_file.h"

namespace raylite {

namespace {

constexpr double kBytesMax = 9007199254740992.0;  // 2^53

/// A number argument that is an integer in [low, high].
double integer_argument(const Napi::Value& value, const char* name, double low, double high) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!value.IsNumber() || !(number >= low && number <= high) || number != std::floor(number)) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be an integer from " +
                                                std::to_string(static_cast<std::int64_t>(low)) + " to " +
                                                std::to_string(static_cast<std::int64_t>(high)));
  }
  return number;
}

/// Starts a run and returns its promise. The threads of the executor hand the outcome to the event loop.
Napi::Value run_program(Napi::Env env, const LoadedProgram& loaded, const RunOptions& options) {
  if (!loaded.program) throw EngineError("ENGINE", "the program was disposed");
  Device& device = loaded.device->live();
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  auto settle = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}), "raylite run", 0, 1);
  const auto done = [settle, deferred, profile = options.profile](const Outcome& result) mutable {
    auto* outcome = new Outcome(result);
    const napi_status status = settle.BlockingCall(outcome, [deferred, profile](Napi::Env env, Napi::Function, Outcome* raw) {
      const std::unique_ptr<Outcome> outcome(raw);
      if (!outcome->code.empty()) {
        const Napi::Error error = coded_error(env, outcome->code.c_str(), outcome->message);
        if (outcome->code == "COMM") error.Value().Set("rank", Napi::Number::New(env, outcome->rank));
        deferred->Reject(error.Value());
      } else if (profile) {
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
    return RunOptions{false, false, static_cast<std::uint32_t>(integer_argument(info[0], "seed", 1, UINT32_MAX))};
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

Napi::Value view_of(Napi::Env env, OpenDevice& device, Buffer& buffer) {
  if (buffer.is_shared() && !device.live().is_host()) {
    throw EngineError("ENGINE", "a view of shared memory of a GPU would be copied over it at every run: use read() and write()");
  }
  if (buffer.view.IsEmpty()) {
    // The ArrayBuffer holds what is seen too: a view that outlives a forgotten device stays valid.
    auto* holder = new std::shared_ptr<std::uint8_t>(device.live().host_view(buffer.memory));
    const Napi::ArrayBuffer view = Napi::ArrayBuffer::New(
        env, holder->get(), buffer.memory->bytes(),
        [](Napi::Env, void*, std::shared_ptr<std::uint8_t>* held) { delete held; }, holder);
    buffer.view = Napi::Persistent(view);
  }
  return buffer.view.Value();
}

Napi::Value load(const Napi::CallbackInfo& info, const std::shared_ptr<OpenDevice>& device) {
  const Napi::Env env = info.Env();
  device->live();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(env, "plan must be a Uint8Array");
  }
  if (!info[1].IsArray() || !info[2].IsArray()) throw Napi::TypeError::New(env, "buffers and communicators must be arrays");
  const auto plan = info[0].As<Napi::Uint8Array>();
  const auto ids = info[1].As<Napi::Array>();
  const auto groups = info[2].As<Napi::Array>();
  std::vector<std::shared_ptr<Memory>> memories;
  for (std::uint32_t i = 0; i < ids.Length(); i++) {
    memories.push_back(device->buffer(static_cast<std::uint32_t>(integer_argument(ids.Get(i), "a buffer", 0, UINT32_MAX))).memory);
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

DType dtype_argument(const Napi::Value& value, const char* name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (text == "f32") return DType::kF32;
  if (text == "bf16") return DType::kBF16;
  if (text == "f16") return DType::kF16;
  throw Napi::TypeError::New(value.Env(), std::string(name) + " must be f32, bf16 or f16");
}

/// Reads tensors of a file into buffers, off the JavaScript thread. Holds the memories and a descriptor of its own meanwhile.
class ReadWorker : public Napi::AsyncWorker {
 public:
  ReadWorker(Napi::Env env, int fd, std::shared_ptr<Device> device)
      : Napi::AsyncWorker(env), deferred(env), fd(fd), device(std::move(device)) {}
  ~ReadWorker() override { close(fd); }

  Napi::Promise::Deferred deferred;
  std::vector<TensorRead> reads;
  std::vector<std::shared_ptr<Memory>> memories;

 protected:
  void Execute() override { read_tensors(fd, reads, *device); }
  void OnOK() override { deferred.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override { deferred.Reject(coded_error(Env(), "ENGINE", error.Message()).Value()); }

 private:
  const int fd;
  const std::shared_ptr<Device> device;
};

Napi::Value read_file(const Napi::CallbackInfo& info, const std::shared_ptr<OpenDevice>& device) {
  const Napi::Env env = info.Env();
  device->live();
  if (!info[1].IsArray()) throw Napi::TypeError::New(env, "reads must be an array");
  const auto list = info[1].As<Napi::Array>();
  const int fd = dup(static_cast<int>(integer_argument(info[0], "fd", 0, INT32_MAX)));
  if (fd < 0) throw EngineError("ENGINE", "fd is not an open file");
  auto worker = std::make_unique<ReadWorker>(env, fd, device->device);
  for (std::uint32_t i = 0; i < list.Length(); i++) {
    if (!list.Get(i).IsObject()) throw Napi::TypeError::New(env, "a read must be an object");
    const auto row = list.Get(i).As<Napi::Object>();
    const auto integer = [&](const char* name) { return integer_argument(row.Get(name), name, 0, kBytesMax); };
    const auto memory = device->buffer(static_cast<std::uint32_t>(integer("buffer"))).memory;
    TensorRead read{};
    read.offset = static_cast<std::uint64_t>(integer("fileOffset"));
    read.count = static_cast<std::uint64_t>(integer("count"));
    read.from = dtype_argument(row.Get("from"), "from");
    read.to = dtype_argument(row.Get("to"), "to");
    const auto start = static_cast<std::uint64_t>(integer("bufferOffset"));
    if (start > memory->bytes() || read.count > (memory->bytes() - start) / bytes_of(read.to)) {
      throw EngineError("ENGINE", "read " + std::to_string(i) + " ends behind its buffer");
    }
    read.to_memory = memory.get();
    read.to_offset = start;
    worker->reads.push_back(read);
    worker->memories.push_back(memory);
  }
  const Napi::Promise promise = worker->deferred.Promise();
  worker.release()->Queue();  // deletes itself when it has settled
  return promise;
}

/// Fills a Float32Array with normal numbers: value i depends on the key and i alone, not on `threads`.
Napi::Value fill_normal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
    throw Napi::TypeError::New(env, "values must be a Float32Array");
  }
  auto values = info[0].As<Napi::Float32Array>();
  const auto key0 = static_cast<std::uint32_t>(integer_argument(info[1], "key0", 0, UINT32_MAX));
  const auto key1 = static_cast<std::uint32_t>(integer_argument(info[2], "key1", 0, UINT32_MAX));
  const auto std_of = info[3].IsNumber() ? info[3].As<Napi::Number>().FloatValue() : -1.0f;
  if (!(std_of >= 0)) throw Napi::TypeError::New(env, "std must not be negative");
  const int wanted = static_cast<int>(integer_argument(info[4], "threads", 1, 1024));
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

/// Joins a group on a thread of the pool. Holds the device meanwhile.
class JoinWorker : public Napi::AsyncWorker {
 public:
  JoinWorker(Napi::Env env, std::shared_ptr<Device> device, std::shared_ptr<Communicator> group, double timeout_ms)
      : Napi::AsyncWorker(env), deferred(env), device_(std::move(device)), group_(std::move(group)), timeout_ms_(timeout_ms) {}
  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    try {
      reason_ = device_->join(group_, timeout_ms_);
    } catch (const CommError& error) {
      rank_ = error.rank();
      SetError(error.what());
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override { deferred.Resolve(reason_.empty() ? Env().Null() : Napi::String::New(Env(), reason_)); }
  void OnError(const Napi::Error& error) override {
    const Napi::Error coded = coded_error(Env(), "COMM", error.Message());
    if (rank_ >= 0) coded.Value().Set("rank", Napi::Number::New(Env(), rank_));
    deferred.Reject(coded.Value());
  }

 private:
  const std::shared_ptr<Device> device_;
  const std::shared_ptr<Communicator> group_;
  const double timeout_ms_;
  std::string reason_;
  int rank_ = -1;
};

Napi::Value join(const Napi::CallbackInfo& info, OpenDevice& device) {
  device.live();
  const double timeout_ms = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
  if (!(timeout_ms > 0)) throw Napi::RangeError::New(info.Env(), "timeoutMs: expected a positive number of milliseconds");
  auto worker = std::make_unique<JoinWorker>(info.Env(), device.device, communicator_of(info[0]), timeout_ms);
  const Napi::Promise promise = worker->deferred.Promise();
  worker.release()->Queue();  // deletes itself when it has settled
  return promise;
}

void dispose_device(OpenDevice& device) {
  if (device.device) device.device->cancel("the device was disposed");
  device.device.reset();  // ends a run in progress, whose promise rejects, and joins the threads
  for (const auto& known : device.programs) {
    if (const auto loaded = known.lock()) loaded->program.reset();
  }
  for (auto& entry : device.buffers) device.release(entry.second);
  device.buffers.clear();
}

/// The arguments of read and write: a buffer, a byte of it, and as many bytes of the caller's.
struct Region {
  std::shared_ptr<Memory> memory;
  std::size_t offset;
  Napi::Uint8Array bytes;
};

Region region_of(const Napi::CallbackInfo& info, OpenDevice& device) {
  const auto id = static_cast<std::uint32_t>(integer_argument(info[0], "buffer", 0, UINT32_MAX));
  const auto offset = static_cast<std::size_t>(integer_argument(info[1], "offset", 0, kBytesMax));
  if (!info[2].IsTypedArray() || info[2].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(info.Env(), "bytes must be a Uint8Array");
  }
  Region region{device.buffer(id).memory, offset, info[2].As<Napi::Uint8Array>()};
  if (offset > region.memory->bytes() || region.bytes.ByteLength() > region.memory->bytes() - offset) {
    throw EngineError("ENGINE", std::to_string(region.bytes.ByteLength()) + " bytes at " + std::to_string(offset) +
                                    " end behind a buffer of " + std::to_string(region.memory->bytes()));
  }
  return region;
}

Napi::Object device_object(Napi::Env env, std::shared_ptr<OpenDevice> device) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("allocate", method(env, "allocate", [device](const Napi::CallbackInfo& info) {
               const double bytes = integer_argument(info[0], "bytes", 1, kBytesMax);
               const bool is_on_host = info[1].IsBoolean() && info[1].As<Napi::Boolean>().Value();
               auto memory = device->live().allocate(static_cast<std::size_t>(bytes), is_on_host);
               return Napi::Number::New(info.Env(), device->add(std::move(memory), is_on_host ? Origin::kHost : Origin::kOwn));
             }));
  object.Set("free", method(env, "free", [device](const Napi::CallbackInfo& info) {
               const auto id = static_cast<std::uint32_t>(integer_argument(info[0], "buffer", 0, UINT32_MAX));
               device->free(id);
               return info.Env().Undefined();
             }));
  object.Set("view", method(env, "view", [device](const Napi::CallbackInfo& info) {
               const auto id = static_cast<std::uint32_t>(integer_argument(info[0], "buffer", 0, UINT32_MAX));
               return view_of(info.Env(), *device, device->buffer(id));
             }));
  object.Set("read", method(env, "read", [device](const Napi::CallbackInfo& info) {
               Region region = region_of(info, *device);
               device->live().read(*region.memory, region.offset, region.bytes.Data(), region.bytes.ByteLength());
               return info.Env().Undefined();
             }));
  object.Set("write", method(env, "write", [device](const Napi::CallbackInfo& info) {
               Region region = region_of(info, *device);
               device->live().write(*region.memory, region.offset, region.bytes.Data(), region.bytes.ByteLength());
               return info.Env().Undefined();
             }));
  object.Set("move", method(env, "move", [device](const Napi::CallbackInfo& info) {
               const auto memory = device->buffer(static_cast<std::uint32_t>(integer_argument(info[0], "buffer", 0, UINT32_MAX))).memory;
               const auto from = static_cast<std::size_t>(integer_argument(info[1], "from", 0, kBytesMax));
               const auto to = static_cast<std::size_t>(integer_argument(info[2], "to", 0, kBytesMax));
               const auto bytes = static_cast<std::size_t>(integer_argument(info[3], "bytes", 0, kBytesMax));
               if (std::max(from, to) > memory->bytes() || bytes > memory->bytes() - std::max(from, to) || std::max(from, to) - std::min(from, to) < bytes) {
                 throw EngineError("ENGINE", std::to_string(bytes) + " bytes at " + std::to_string(from) + " cannot be copied to " + std::to_string(to) +
                                                 " in a buffer of " + std::to_string(memory->bytes()));
               }
               device->live().move(*memory, from, to, bytes);
               return info.Env().Undefined();
             }));
  add_sharing(env, object, device);
  object.Set("join", method(env, "join", [device](const Napi::CallbackInfo& info) { return join(info, *device); }));
  object.Set("load", method(env, "load", [device](const Napi::CallbackInfo& info) { return load(info, device); }));
  object.Set("readFile", method(env, "readFile", [device](const Napi::CallbackInfo& info) { return read_file(info, device); }));
  object.Set("dispose", method(env, "dispose", [device](const Napi::CallbackInfo& info) {
               dispose_device(*device);
               return info.Env().Undefined();
             }));
  for (const bool is_on_host : {false, true}) {
    object.DefineProperty(Napi::PropertyDescriptor::Accessor(
        env, object, is_on_host ? "hostBytes" : "allocatedBytes",
        [device, is_on_host](const Napi::CallbackInfo& info) {
          return Napi::Number::New(info.Env(), static_cast<double>(device->bytes_of(is_on_host ? Origin::kHost : Origin::kOwn)));
        },
        napi_enumerable));
  }
  return object;
}

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
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "createDevice needs { threads, isa, pin }");
  const auto options = info[0].As<Napi::Object>();
  const Napi::Value isa = options.Get("isa");
  if (!isa.IsNull() && !isa.IsString()) throw Napi::TypeError::New(env, "isa must be null, \"scalar\", \"avx2\" or \"avx512\"");
  const Napi::Value pin = options.Get("pin");
  if (!pin.IsBoolean()) throw Napi::TypeError::New(env, "pin must be a boolean");
  const int threads = static_cast<int>(integer_argument(options.Get("threads"), "threads", 1, 1024));
  const Kernels& kernels = kernels_of(isa.IsNull() ? best_isa() : isa.As<Napi::String>().Utf8Value());
  auto device = std::make_shared<CpuDevice>(threads, pin.As<Napi::Boolean>().Value(), kernels);
  return device_object(env, std::make_shared<OpenDevice>(std::move(device)));
}

std::string path_argument(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  if (!value.IsNull() && !value.IsString()) throw Napi::TypeError::New(options.Env(), std::string(name) + " must be a path or null");
  return value.IsNull() ? "" : value.As<Napi::String>().Utf8Value();
}

Napi::Value create_cuda_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "createCudaDevice needs { library, index, cublasLt, nccl }");
  const auto options = info[0].As<Napi::Object>();
  CudaOptions wanted;
  wanted.library = path_argument(options, "library");
  wanted.cublas_lt = path_argument(options, "cublasLt");
  wanted.nccl = path_argument(options, "nccl");
  wanted.index = static_cast<int>(integer_argument(options.Get("index"), "index", 0, 1023));
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

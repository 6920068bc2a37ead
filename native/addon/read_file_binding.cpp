// Tensors of a file read into buffers, off the JavaScript thread.
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon/guarded.h"
#include "addon/open_device.h"
#include "core/tensor_file.h"

namespace raylite {

namespace {

DType dtype_of(const Napi::Value& value, const std::string& name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  if (text == "f32") return DType::kF32;
  if (text == "bf16") return DType::kBF16;
  if (text == "f16") return DType::kF16;
  throw Napi::TypeError::New(value.Env(), name + ": expected \"f32\", \"bf16\" or \"f16\"");
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

}  // namespace

Napi::Value read_file(const Napi::CallbackInfo& info, const std::shared_ptr<OpenDevice>& device) {
  const Napi::Env env = info.Env();
  device->live();
  const auto list = array_of(info[1], "reads");
  const int fd = dup(static_cast<int>(integer_of(info[0], "fd", 0, INT32_MAX)));
  if (fd < 0) throw EngineError("ENGINE", "fd is not an open file");
  auto worker = std::make_unique<ReadWorker>(env, fd, device->device);
  for (std::uint32_t i = 0; i < list.Length(); i++) {
    const std::string place = "reads[" + std::to_string(i) + "]";
    const auto row = object_of(list.Get(i), place);
    const auto integer = [&](const char* name) { return integer_of(row.Get(name), place + "." + name); };
    const auto memory = device->buffer(static_cast<std::uint32_t>(integer("buffer"))).memory;
    TensorRead read{};
    read.offset = static_cast<std::uint64_t>(integer("fileOffset"));
    read.count = static_cast<std::uint64_t>(integer("count"));
    read.from = dtype_of(row.Get("from"), place + ".from");
    read.to = dtype_of(row.Get("to"), place + ".to");
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

}  // namespace raylite

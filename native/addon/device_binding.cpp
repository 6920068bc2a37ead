// A device as a JavaScript object (src/native/addon.ts, NativeDevice): its memory, and what loads programs onto it.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "addon/arguments.h"
#include "addon/bindings.h"
#include "addon/communicator_object.h"
#include "addon/guarded.h"
#include "addon/open_device.h"
#include "addon/shared_memory.h"

namespace raylite {

namespace {

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

void dispose_device(OpenDevice& device) {
  if (device.device) device.device->cancel("the device was disposed");
  device.device.reset();  // ends a run in progress, whose promise rejects, and joins the threads
  for (const auto& known : device.programs) {
    if (const auto loaded = known.lock()) loaded->program.reset();
  }
  for (auto& entry : device.buffers) device.release(entry.second);
  device.buffers.clear();
}

/// Memory of a buffer from a byte on, which has `bytes` there.
struct Part {
  std::shared_ptr<Memory> memory;
  std::size_t offset, bytes;
};
Part part_of(const Napi::Value& buffer, const Napi::Value& offset, std::size_t bytes, OpenDevice& device) {
  const auto id = static_cast<std::uint32_t>(integer_of(buffer, "buffer", 0, UINT32_MAX));
  const Part part{device.buffer(id).memory, static_cast<std::size_t>(integer_of(offset, "offset", 0, kSafeIntegerMax)), bytes};
  if (part.offset > part.memory->bytes() || bytes > part.memory->bytes() - part.offset) {
    throw EngineError("ENGINE", std::to_string(bytes) + " bytes at " + std::to_string(part.offset) + " end behind a buffer of " +
                                    std::to_string(part.memory->bytes()));
  }
  return part;
}

/// The arguments of read and write: a buffer, a byte of it, and as many bytes of the caller's.
struct Region {
  Part part;
  Napi::Uint8Array bytes;
};

Region region_of(const Napi::CallbackInfo& info, OpenDevice& device) {
  auto bytes = bytes_of(info[2], "bytes");
  return {part_of(info[0], info[1], bytes.ByteLength(), device), bytes};
}

Napi::Value copy(const Napi::CallbackInfo& info, OpenDevice& device) {
  const auto bytes = static_cast<std::size_t>(integer_of(info[4], "bytes", 0, kSafeIntegerMax));
  const Part from = part_of(info[0], info[1], bytes, device), to = part_of(info[2], info[3], bytes, device);
  if (from.memory == to.memory && std::max(from.offset, to.offset) - std::min(from.offset, to.offset) < bytes) {
    throw EngineError("ENGINE", std::to_string(bytes) + " bytes at " + std::to_string(from.offset) + " overlap those at " + std::to_string(to.offset));
  }
  device.live().copy(*from.memory, from.offset, *to.memory, to.offset, bytes);
  return info.Env().Undefined();
}

Napi::Value pass(const Napi::CallbackInfo& info, OpenDevice& device) {
  const Napi::Object given = object_of(info[1], "message");
  const auto bytes = static_cast<std::size_t>(integer_of(given.Get("bytes"), "bytes", 1, kSafeIntegerMax));
  const Part part = part_of(given.Get("buffer"), given.Get("offset"), bytes, device);
  const bool is_sent = given.Has("to");
  const auto group = communicator_of(info[0]);
  const int peer = static_cast<int>(integer_of(given.Get(is_sent ? "to" : "from"), is_sent ? "to" : "from", 0, group->size() - 1));
  if (peer == group->rank()) throw Napi::RangeError::New(info.Env(), "message: expected another rank, got this one");
  device.live();
  return call_communicator(info[0], given, [holder = device.device, part, peer, is_sent](Communicator& ranks) {
    holder->pass(ranks, {part.memory.get(), part.offset, part.bytes, peer, is_sent});
  });
}

}  // namespace

Napi::Object device_object(Napi::Env env, std::shared_ptr<OpenDevice> device) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("allocate", method(env, "allocate", [device](const Napi::CallbackInfo& info) {
               const double bytes = integer_of(info[0], "bytes", 1, kSafeIntegerMax);
               const bool is_on_host = info[1].IsBoolean() && info[1].As<Napi::Boolean>().Value();
               auto memory = device->live().allocate(static_cast<std::size_t>(bytes), is_on_host);
               return Napi::Number::New(info.Env(), device->add(std::move(memory), is_on_host ? Origin::kHost : Origin::kOwn));
             }));
  object.Set("free", method(env, "free", [device](const Napi::CallbackInfo& info) {
               const auto id = static_cast<std::uint32_t>(integer_of(info[0], "buffer", 0, UINT32_MAX));
               device->free(id);
               return info.Env().Undefined();
             }));
  object.Set("view", method(env, "view", [device](const Napi::CallbackInfo& info) {
               const auto id = static_cast<std::uint32_t>(integer_of(info[0], "buffer", 0, UINT32_MAX));
               return view_of(info.Env(), *device, device->buffer(id));
             }));
  object.Set("read", method(env, "read", [device](const Napi::CallbackInfo& info) {
               Region region = region_of(info, *device);
               device->live().read(*region.part.memory, region.part.offset, region.bytes.Data(), region.bytes.ByteLength());
               return info.Env().Undefined();
             }));
  object.Set("write", method(env, "write", [device](const Napi::CallbackInfo& info) {
               Region region = region_of(info, *device);
               device->live().write(*region.part.memory, region.part.offset, region.bytes.Data(), region.bytes.ByteLength());
               return info.Env().Undefined();
             }));
  object.Set("copy", method(env, "copy", [device](const Napi::CallbackInfo& info) { return copy(info, *device); }));
  object.Set("pass", method(env, "pass", [device](const Napi::CallbackInfo& info) { return pass(info, *device); }));
  object.Set("isHost", Napi::Boolean::New(env, device->live().is_host()));
  add_sharing(env, object, device);
  object.Set("choices", method(env, "choices", [device](const Napi::CallbackInfo& info) {
               const std::vector<std::string> lines = device->live().choices();
               const auto array = Napi::Array::New(info.Env(), lines.size());
               for (std::size_t i = 0; i < lines.size(); i++) array.Set(static_cast<std::uint32_t>(i), lines[i]);
               return array;
             }));
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

}  // namespace raylite

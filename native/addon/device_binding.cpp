// A device as a JavaScript object (src/native/addon.ts, NativeDevice): its memory, and what loads programs onto it.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

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

/// The arguments of read and write: a buffer, a byte of it, and as many bytes of the caller's.
struct Region {
  std::shared_ptr<Memory> memory;
  std::size_t offset;
  Napi::Uint8Array bytes;
};

Region region_of(const Napi::CallbackInfo& info, OpenDevice& device) {
  const auto id = static_cast<std::uint32_t>(integer_of(info[0], "buffer", 0, UINT32_MAX));
  const auto offset = static_cast<std::size_t>(integer_of(info[1], "offset", 0, kSafeIntegerMax));
    Region region{device.buffer(id).memory, offset, bytes_of(info[2], "bytes")};
  if (offset > region.memory->bytes() || region.bytes.ByteLength() > region.memory->bytes() - offset) {
    throw EngineError("ENGINE", std::to_string(region.bytes.ByteLength()) + " bytes at " + std::to_string(offset) +
                                    " end behind a buffer of " + std::to_string(region.memory->bytes()));
  }
  return region;
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
               device->live().read(*region.memory, region.offset, region.bytes.Data(), region.bytes.ByteLength());
               return info.Env().Undefined();
             }));
  object.Set("write", method(env, "write", [device](const Napi::CallbackInfo& info) {
               Region region = region_of(info, *device);
               device->live().write(*region.memory, region.offset, region.bytes.Data(), region.bytes.ByteLength());
               return info.Env().Undefined();
             }));
  object.Set("move", method(env, "move", [device](const Napi::CallbackInfo& info) {
               const auto memory = device->buffer(static_cast<std::uint32_t>(integer_of(info[0], "buffer", 0, UINT32_MAX))).memory;
               const auto from = static_cast<std::size_t>(integer_of(info[1], "from", 0, kSafeIntegerMax));
               const auto to = static_cast<std::size_t>(integer_of(info[2], "to", 0, kSafeIntegerMax));
               const auto bytes = static_cast<std::size_t>(integer_of(info[3], "bytes", 0, kSafeIntegerMax));
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

}  // namespace raylite

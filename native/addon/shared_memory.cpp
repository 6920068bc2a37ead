// share, adopt, openShared: memory of a device that more than one owner holds. It goes back when the last of them lets go.
#include "addon/shared_memory.h"

#include <algorithm>

#include "addon/guarded.h"
#include "core/machine.h"

namespace raylite {

namespace {

constexpr napi_type_tag kShareTag = {0x2f7c91d3a5e84b06, 0xb84d6e0f13a97c52};

/// What share() gave: keeps memory and, to read it, its device.
struct Share {
  std::shared_ptr<Device> device;
  std::shared_ptr<Memory> memory;
  std::string place;

  Share& live() {
    if (!memory) throw EngineError("ENGINE", "the share was disposed");
    return *this;
  }
};
using Held = std::shared_ptr<Share>;

void check_inside(const Memory& memory, std::size_t offset, std::size_t bytes) {
  if (offset <= memory.bytes() && bytes <= memory.bytes() - offset) return;
  throw EngineError("ENGINE", std::to_string(bytes) + " bytes at " + std::to_string(offset) + " end behind shared memory of " + std::to_string(memory.bytes()));
}

Napi::Value read_share(const Napi::CallbackInfo& info, Share& share) {
  share.live();
  const auto offset = static_cast<std::size_t>(integer_of(info[0], "offset"));
  auto bytes = bytes_of(info[1], "bytes");
  check_inside(*share.memory, offset, bytes.ByteLength());
  share.device->read(*share.memory, offset, bytes.Data(), bytes.ByteLength());
  return info.Env().Undefined();
}

Napi::Value share_buffer(const Napi::CallbackInfo& info, OpenDevice& device) {
  const Napi::Env env = info.Env();
  const Buffer& buffer = device.buffer(static_cast<std::uint32_t>(integer_of(info[0], "buffer", 0, UINT32_MAX)));
  if (buffer.origin == Origin::kHost) throw EngineError("ENGINE", "memory of the host beside a device cannot be shared");
  const auto held = std::make_shared<Share>(Share{device.device, buffer.memory, device.live().place()});
  // A handle is of who allocated: a process cannot pass on what it opened itself.
  const auto handle = buffer.origin == Origin::kOwn ? device.live().share(*buffer.memory) : std::vector<std::uint8_t>{};
  Napi::Object object = Napi::Object::New(env);
  auto external = Napi::External<Held>::New(env, new Held(held), [](Napi::Env, Held* value) { delete value; });
  external.TypeTag(&kShareTag);
  object.Set("share", external);
  object.Set("place", held->place);
  object.Set("bytes", Napi::Number::New(env, static_cast<double>(buffer.memory->bytes())));
  if (handle.empty()) {
    object.Set("handle", env.Null());
  } else {
    auto bytes = Napi::Uint8Array::New(env, handle.size());
    std::copy(handle.begin(), handle.end(), bytes.Data());
    object.Set("handle", bytes);
  }
  object.Set("read", method(env, "read", [held](const Napi::CallbackInfo& call) { return read_share(call, *held); }));
  object.Set("dispose", method(env, "dispose", [held](const Napi::CallbackInfo& call) {
               held->memory.reset();
               held->device.reset();
               return call.Env().Undefined();
             }));
  return object;
}

Share& share_of(Napi::Env env, const Napi::Value& value) {
  const Napi::Value external = object_of(value, "share").Get("share");
  if (!external.IsExternal() || !external.As<Napi::External<Held>>().CheckTypeTag(&kShareTag)) {
    throw Napi::TypeError::New(env, "share: expected what share() gave");
  }
  return (*external.As<Napi::External<Held>>().Data())->live();
}

Napi::Value adopt(const Napi::CallbackInfo& info, OpenDevice& device) {
  const Napi::Env env = info.Env();
  const Share& share = share_of(env, info[0]);
  const std::string place = device.live().place();
  if (share.place != place) throw EngineError("ENGINE", "memory of " + share.place + " is not reachable from " + place);
  return Napi::Number::New(env, device.add(share.memory, Origin::kAdopted));
}

Napi::Value open_shared(const Napi::CallbackInfo& info, OpenDevice& device) {
  const Napi::Env env = info.Env();
  const auto given = bytes_of(info[0], "handle");
  const auto bytes = static_cast<std::size_t>(integer_of(info[1], "bytes", 1));
  auto memory = device.live().open_shared({given.Data(), given.Data() + given.ByteLength()}, bytes);
  return Napi::Number::New(env, device.add(std::move(memory), Origin::kOpened));
}

/// So many bytes of `from`, copied to a buffer of the device's own.
std::uint32_t copied(OpenDevice& device, const Memory& from, const Napi::Value& at, const Napi::Value& count) {
  const auto offset = static_cast<std::size_t>(integer_of(at, "offset"));
  const auto bytes = static_cast<std::size_t>(integer_of(count, "bytes", 1));
  check_inside(from, offset, bytes);
  auto own = device.live().allocate(bytes);
  device.live().copy(from, offset, *own, 0, bytes);
  return device.add(std::move(own), Origin::kOwn);
}

Napi::Value copy_shared(const Napi::CallbackInfo& info, OpenDevice& device) {
  const Napi::Value given = info[0];
  if (!given.IsTypedArray()) {
    const Share& share = share_of(info.Env(), given);
    if (share.device->is_host() || device.live().is_host()) throw EngineError("ENGINE", "copies from GPU to GPU alone");
    return Napi::Number::New(info.Env(), copied(device, *share.memory, info[2], info[3]));
  }
  const auto handle = bytes_of(given, "handle");
  const auto memory_bytes = static_cast<std::size_t>(integer_of(info[1], "memoryBytes", 1));
  const auto memory = device.live().open_shared({handle.Data(), handle.Data() + handle.ByteLength()}, memory_bytes);
  return Napi::Number::New(info.Env(), copied(device, *memory, info[2], info[3]));
}

}  // namespace

void add_sharing(Napi::Env env, Napi::Object object, const std::shared_ptr<OpenDevice>& device) {
  object.Set("place", device->live().place());
  object.Set("share", method(env, "share", [device](const Napi::CallbackInfo& info) { return share_buffer(info, *device); }));
  object.Set("adopt", method(env, "adopt", [device](const Napi::CallbackInfo& info) { return adopt(info, *device); }));
  object.Set("machine", machine_name());
  object.Set("copyShared", method(env, "copyShared", [device](const Napi::CallbackInfo& info) { return copy_shared(info, *device); }));
  object.Set("openShared", method(env, "openShared", [device](const Napi::CallbackInfo& info) { return open_shared(info, *device); }));
}

}  // namespace raylite

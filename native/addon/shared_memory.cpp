// share, adopt, openShared: memory of a device that more than one owner holds. It goes back when the last of them lets go.
#include "addon/shared_memory.h"

#include <algorithm>

#include "addon/guarded.h"

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

Napi::Value read_share(const Napi::CallbackInfo& info, Share& share) {
  share.live();
  const auto offset = static_cast<std::size_t>(integer_of(info[0], "offset"));
  auto bytes = bytes_of(info[1], "bytes");
  if (offset > share.memory->bytes() || bytes.ByteLength() > share.memory->bytes() - offset) {
    throw EngineError("ENGINE", std::to_string(bytes.ByteLength()) + " bytes at " + std::to_string(offset) + " end behind shared memory of " +
                                    std::to_string(share.memory->bytes()));
  }
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

Napi::Value adopt(const Napi::CallbackInfo& info, OpenDevice& device) {
  const Napi::Env env = info.Env();
  const Napi::Value external = object_of(info[0], "share").Get("share");
  if (!external.IsExternal() || !external.As<Napi::External<Held>>().CheckTypeTag(&kShareTag)) {
    throw Napi::TypeError::New(env, "share: expected what share() gave");
  }
  Share& share = (*external.As<Napi::External<Held>>().Data())->live();
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

}  // namespace

void add_sharing(Napi::Env env, Napi::Object object, const std::shared_ptr<OpenDevice>& device) {
  object.Set("place", device->live().place());
  object.Set("share", method(env, "share", [device](const Napi::CallbackInfo& info) { return share_buffer(info, *device); }));
  object.Set("adopt", method(env, "adopt", [device](const Napi::CallbackInfo& info) { return adopt(info, *device); }));
  object.Set("openShared", method(env, "openShared", [device](const Napi::CallbackInfo& info) { return open_shared(info, *device); }));
}

}  // namespace raylite

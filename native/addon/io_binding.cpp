// Files that the engine offloads to, as JavaScript objects (src/native/addon.ts, NativeIo).
#include "addon/bindings.h"
#include "addon/guarded.h"
#include "io/swap_file.h"

namespace raylite {

namespace {

constexpr napi_type_tag kSwapFileTag = {0x6b1f0a58c2de4471, 0x9d3b57e2a40f8c16};
using Held = std::shared_ptr<SwapFile>;

/// read(offset, bytes) or write(offset, bytes): blocks.
Napi::Function access(Napi::Env env, const char* name, const std::shared_ptr<Held>& held, bool is_write) {
  const auto body = [held, is_write](const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      if (!*held) throw EngineError("ENGINE", "the offload file was disposed");
      auto bytes = bytes_of(info[1], "bytes");
      const auto offset = static_cast<std::uint64_t>(integer_of(info[0], "offset", 0, kSafeIntegerMax));
      if (offset > (*held)->bytes() || bytes.ByteLength() > (*held)->bytes() - offset) {
        throw EngineError("ENGINE", "byte " + std::to_string(offset) + " is behind the end of the offload file");
      }
      if (is_write) {
        (*held)->write_any(offset, bytes.Data(), bytes.ByteLength());
      } else {
        (*held)->read_any(offset, bytes.Data(), bytes.ByteLength());
      }
      return info.Env().Undefined();
    });
  };
  return Napi::Function::New(env, body, name);
}

Napi::Value open_swap_file(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object given = object_of(info[0], "options");
  const auto integer = [&](const char* name, double low, double high) {
    return static_cast<std::uint64_t>(integer_of(given.Get(name), name, low, high));
  };
  SwapOptions options;
  options.folder = string_of(given.Get("folder"), "folder");
  options.bytes = integer("bytes", 1, kSafeIntegerMax);
  options.block_bytes = integer("blockBytes", SwapFile::kAligned, 1 << 30);
  if (options.block_bytes % SwapFile::kAligned != 0) throw Napi::TypeError::New(env, "blockBytes: expected a multiple of 4096");
  options.queue_depth = static_cast<std::uint32_t>(integer("queueDepth", 1, 1024));
  options.threads = static_cast<std::uint32_t>(integer("threads", 1, 64));
  options.single_submit = given.Get("singleSubmit").ToBoolean().Value();
  options.overlap_events = given.Get("overlapEvents").ToBoolean().Value();
  return guarded(env, [&] {
    const auto held = std::make_shared<Held>(std::make_shared<SwapFile>(options));
    Napi::Object object = Napi::Object::New(env);
    using Handle = std::shared_ptr<Held>;
    auto handle = Napi::External<Handle>::New(env, new Handle(held), [](Napi::Env, Handle* value) { delete value; });
    handle.TypeTag(&kSwapFileTag);
    object.Set("handle", handle);
    object.Set("isDirect", Napi::Boolean::New(env, (*held)->is_direct()));
    object.Set("read", access(env, "read", held, false));
    object.Set("write", access(env, "write", held, true));
    object.Set("dispose", Napi::Function::New(env, [held](const Napi::CallbackInfo& call) {
                 held->reset();  // programs that use the file hold it until they are disposed
                 return call.Env().Undefined();
               }, "dispose"));
    return static_cast<Napi::Value>(object);
  });
}

}  // namespace

std::shared_ptr<SwapFile> swap_file_of(const Napi::Value& value) {
  const Napi::Value handle = value.IsObject() ? value.As<Napi::Object>().Get("handle") : value;
  if (!handle.IsExternal() || !handle.As<Napi::External<std::shared_ptr<Held>>>().CheckTypeTag(&kSwapFileTag)) {
    throw Napi::TypeError::New(value.Env(), "expected a file that openSwapFile made");
  }
  const std::shared_ptr<SwapFile> file = **handle.As<Napi::External<std::shared_ptr<Held>>>().Data();
  if (!file) throw EngineError("ENGINE", "the offload file was disposed");
  return file;
}

void bind_io(Napi::Env env, Napi::Object exports) {
  exports.Set("openSwapFile", Napi::Function::New(env, open_swap_file, "openSwapFile"));
}

}  // namespace raylite

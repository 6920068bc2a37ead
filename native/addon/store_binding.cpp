// NativeStore and NativeArena of src/native/addon.ts. Every view holds the arena: closing it never pulls memory away.
#include <memory>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "addon/bindings.h"
#include "addon/spill_binding.h"
#include "addon/view.h"
#include "store/arena.h"
#include "store/copy.h"
#include "store/crc32.h"

namespace raylite {

namespace {

using ArenaView = View<std::shared_ptr<Arena>>;

Napi::Value make_view(Napi::Env env, char* address, std::size_t length, ArenaView view) {
  if (length == 0) {
    // There is no memory to hold; an ordinary empty buffer, let go at once.
    auto* released = new ArenaView(std::move(view));
    Napi::ArrayBuffer empty = Napi::ArrayBuffer::New(env, 0);
    empty.AddFinalizer([](Napi::Env finalizer_env, ArenaView* data) { release_view(finalizer_env, nullptr, data); }, released);
    return empty;
  }
  return Napi::ArrayBuffer::New(env, address, length, release_view<std::shared_ptr<Arena>>, new ArenaView(std::move(view)));
}

class ArenaObject : public Napi::ObjectWrap<ArenaObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeArena",
                       {InstanceAccessor<&ArenaObject::bytes>("bytes"),
                        InstanceMethod<&ArenaObject::writable>("writable"),
                        InstanceMethod<&ArenaObject::readable>("readable"), InstanceMethod<&ArenaObject::write>("write"),
                        InstanceMethod<&ArenaObject::forget>("forget"), InstanceMethod<&ArenaObject::crc>("crc32"),
                        InstanceMethod<&ArenaObject::publish>("publish"), InstanceMethod<&ArenaObject::pin>("pin"),
                        InstanceMethod<&ArenaObject::unpin>("unpin"), InstanceMethod<&ArenaObject::revoke>("revoke"),
                        InstanceMethod<&ArenaObject::prefault>("prefault"), InstanceMethod<&ArenaObject::spill>("spill"),
                        InstanceMethod<&ArenaObject::write_aside>("writeAside"), InstanceMethod<&ArenaObject::close>("close"),
                        InstanceMethod<&ArenaObject::unlink>("unlink")});
  }

  explicit ArenaObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ArenaObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), "an arena is made by createArena or openArena");
    }
    arena_ = *info[0].As<Napi::External<std::shared_ptr<Arena>>>().Data();
    bytes_ = arena_->bytes();
  }

 private:
  Arena& arena(Napi::Env env) const {
    if (!arena_) throw coded_error(env, "STORE", "the arena is closed");
    return *arena_;
  }

  Napi::Value bytes(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(bytes_));
  }

  Napi::Value writable(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset"), length = integer_of(info[1], "length");
    return with_store_errors(info.Env(), [&] {
      char* address = arena(info.Env()).writable(offset, length);
      return make_view(info.Env(), address, length, ArenaView{arena_, {}});
    });
  }

  Napi::Value readable(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset"), length = integer_of(info[1], "length");
    const Napi::Function on_release = function_of(info[2], "onRelease");
    const bool is_written = info[3].ToBoolean();
    return with_store_errors(info.Env(), [&] {
      char* address = arena(info.Env()).readable(offset, length, is_written);
      return make_view(info.Env(), address, length, ArenaView{arena_, Napi::Persistent(on_release)});
    });
  }

  void write(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset");
    if (!info[1].IsArray()) throw Napi::TypeError::New(info.Env(), "parts: expected an array of Uint8Array");
    const auto array = info[1].As<Napi::Array>();
    std::vector<std::pair<const void*, std::size_t>> parts(array.Length());
    std::size_t length = 0;
    for (std::uint32_t i = 0; i < parts.size(); ++i) {
      const Napi::Value part = array.Get(i);
      if (!part.IsTypedArray() || part.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
        throw Napi::TypeError::New(info.Env(), "parts[" + std::to_string(i) + "]: expected a Uint8Array");
      }
      const auto bytes = part.As<Napi::Uint8Array>();
      parts[i] = {bytes.Data(), bytes.ByteLength()};
      length += bytes.ByteLength();
    }
    with_store_errors(info.Env(), [&] {
      char* to = arena(info.Env()).writable(offset, length);
      for (const auto& [from, bytes] : parts) {
        if (bytes == 0) continue;  // its address may be null
        copy_bytes(to, from, bytes);
        to += bytes;
      }
    });
  }

  void forget(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset"), length = integer_of(info[1], "length");
    with_store_errors(info.Env(), [&] { arena(info.Env()).forget(offset, length); });
  }

  Napi::Value crc(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset"), length = integer_of(info[1], "length");
    return with_store_errors(info.Env(), [&] {
      return Napi::Number::New(info.Env(), crc32(arena(info.Env()).shared(offset, length), length));
    });
  }

  /// (offset, slab, serial, …): which object is meant. Tags are never 0: slabs count from 1.
  static std::uint64_t tag_of(const Napi::CallbackInfo& info) {
    return integer_of(info[1], "slab", 1, UINT32_MAX) << 32 | integer_of(info[2], "serial", 0, UINT32_MAX);
  }
  static std::size_t reader_of(const Napi::Value& value) { return integer_of(value, "reader", 0, kReadersMax - 1); }

  void publish(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset");
    const std::uint64_t tag = tag_of(info);
    with_store_errors(info.Env(), [&] { arena(info.Env()).pins(offset).publish(tag); });
  }

  Napi::Value pin(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset"), reader = reader_of(info[3]);
    const std::uint64_t tag = tag_of(info);
    return with_store_errors(info.Env(), [&] {
      return Napi::Boolean::New(info.Env(), arena(info.Env()).pins(offset).pin(tag, reader));
    });
  }

  void unpin(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset"), reader = reader_of(info[1]);
    with_store_errors(info.Env(), [&] { arena(info.Env()).pins(offset).unpin(reader); });
  }

  Napi::Value revoke(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset");
    const std::uint64_t tag = tag_of(info);
    return with_store_errors(info.Env(), [&] {
      return Napi::Boolean::New(info.Env(), arena(info.Env()).pins(offset).revoke(tag));
    });
  }

  void prefault(const Napi::CallbackInfo& info) { arena(info.Env()).prefault(integer_of(info[0], "bytes")); }

  Napi::Value spill(const Napi::CallbackInfo& info) {
    const int fd = static_cast<int>(integer_of(info[0], "fd", 0, INT32_MAX));
    const auto list = array_of(info[1], "parts");
    std::vector<SpillPart> parts(list.Length());
    return with_store_errors(info.Env(), [&] {
      for (std::uint32_t i = 0; i < parts.size(); ++i) {
        const std::string place = "parts[" + std::to_string(i) + "]";
        const auto part = object_of(list.Get(i), place);
        const std::size_t offset = integer_of(part.Get("offset"), place + ".offset");
        const std::size_t bytes = integer_of(part.Get("size"), place + ".size", 1);
        parts[i] = {arena(info.Env()).shared(offset, bytes), bytes, integer_of(part.Get("at"), place + ".at")};
      }
      return spill_later(info.Env(), fd, arena_, std::move(parts));
    });
  }

  void write_aside(const Napi::CallbackInfo& info) {
    const std::size_t offset = integer_of(info[0], "offset");
    const Aside& aside = AsideObject::of(info[1]);
    with_store_errors(info.Env(), [&] {
      copy_bytes(arena(info.Env()).writable(offset, aside.bytes()), aside.address(), aside.bytes());
    });
  }

  void close(const Napi::CallbackInfo&) {
    if (!arena_) return;
    arena_->close();
    arena_.reset();
  }

  void unlink(const Napi::CallbackInfo& info) { arena(info.Env()).unlink(); }

  std::shared_ptr<Arena> arena_;  // null once closed
  std::size_t bytes_ = 0;
};

}  // namespace

void bind_store(Napi::Env env, Napi::Object exports) {
  const auto type = std::make_shared<Napi::FunctionReference>(Napi::Persistent(ArenaObject::define(env)));
  const auto wrap = [type](Napi::Env in, std::shared_ptr<Arena> arena) -> Napi::Value {
    return type->New({Napi::External<std::shared_ptr<Arena>>::New(in, &arena)});
  };
  exports.Set("createArena", Napi::Function::New(env, [wrap](const Napi::CallbackInfo& info) {
                const Napi::Object options = object_of(info[0], "options");
                const std::string path = string_of(options.Get("path"), "path");
                const std::size_t bytes = integer_of(options.Get("bytes"), "bytes", 1);
                return with_store_errors(info.Env(), [&] { return wrap(info.Env(), Arena::create(path, bytes)); });
              }));
  exports.Set("openArena", Napi::Function::New(env, [wrap](const Napi::CallbackInfo& info) {
                const Napi::Object options = object_of(info[0], "options");
                const std::string path = string_of(options.Get("path"), "path");
                const std::size_t bytes = integer_of(options.Get("bytes"), "bytes", 1);
                return with_store_errors(info.Env(), [&] { return wrap(info.Env(), Arena::open(path, bytes)); });
              }));
  exports.Set("crc32", Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
                const auto bytes = bytes_of(info[0], "bytes");
                return Napi::Number::New(info.Env(), crc32(bytes.Data(), bytes.ByteLength()));
              }));
  exports.Set("mapFile", Napi::Function::New(env, map_file_later));
  AsideObject::bind(env, exports);
}

}  // namespace raylite

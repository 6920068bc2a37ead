#include "addon/spill_binding.h"

#include <cstring>
#include <new>
#include <string>

#include "addon/view.h"
#include "store/copy.h"

namespace raylite {

namespace {

/// Work of the store on a thread of the pool.
class StoreWorker : public Napi::AsyncWorker {
 public:
  explicit StoreWorker(Napi::Env env) : Napi::AsyncWorker(env), deferred(env) {}
  const Napi::Promise::Deferred deferred;

 protected:
  void OnError(const Napi::Error& error) override { deferred.Reject(coded_error(Env(), "STORE", error.Message()).Value()); }
};

class SpillWorker : public StoreWorker {
 public:
  SpillWorker(Napi::Env env, int fd, std::shared_ptr<Arena> arena, std::vector<SpillPart> parts)
      : StoreWorker(env), fd_(fd), arena_(std::move(arena)), parts_(std::move(parts)) {}

 protected:
  void Execute() override { checksums_ = write_parts(fd_, parts_); }
  void OnOK() override {
    const auto list = Napi::Array::New(Env(), checksums_.size());
    for (std::uint32_t i = 0; i < checksums_.size(); ++i) list.Set(i, Napi::Number::New(Env(), checksums_[i]));
    deferred.Resolve(list);
  }

 private:
  const int fd_;
  const std::shared_ptr<Arena> arena_;  // the parts lie there
  const std::vector<SpillPart> parts_;
  std::vector<std::uint32_t> checksums_;
};

class MapWorker : public StoreWorker {
 public:
  MapWorker(Napi::Env env, std::string path, std::size_t at, std::size_t bytes, std::uint32_t crc, Napi::Function on_release)
      : StoreWorker(env), path_(std::move(path)), at_(at), bytes_(bytes), crc_(crc), on_release_(Napi::Persistent(on_release)) {}

 protected:
  void Execute() override { part_ = std::make_unique<FilePart>(path_, at_, bytes_, crc_); }
  void OnOK() override {
    char* const address = part_->address();
    deferred.Resolve(Napi::ArrayBuffer::New(Env(), address, bytes_, release_view<std::unique_ptr<FilePart>>,
                                            new View<std::unique_ptr<FilePart>>{std::move(part_), std::move(on_release_)}));
  }

 private:
  const std::string path_;
  const std::size_t at_, bytes_;
  const std::uint32_t crc_;
  Napi::FunctionReference on_release_;
  std::unique_ptr<FilePart> part_;
};

template <class Worker>
Napi::Value queue(std::unique_ptr<Worker> worker) {
  const Napi::Promise promise = worker->deferred.Promise();
  worker.release()->Queue();  // deletes itself when it has settled
  return promise;
}

}  // namespace

Napi::Value spill_later(Napi::Env env, int fd, std::shared_ptr<Arena> arena, std::vector<SpillPart> parts) {
  return queue(std::make_unique<SpillWorker>(env, fd, std::move(arena), std::move(parts)));
}

Napi::Value map_file_later(const Napi::CallbackInfo& info) {
  const Napi::Object options = object_of(info[0], "options");
  const auto integer = [&](const char* name, double min, double max) { return integer_of(options.Get(name), name, min, max); };
  const std::string path = string_of(options.Get("path"), "path");
  const std::size_t at = integer("at", 0, kSafeIntegerMax), bytes = integer("bytes", 1, kSafeIntegerMax);
  const auto crc = static_cast<std::uint32_t>(integer("crc", 0, UINT32_MAX));
  return queue(std::make_unique<MapWorker>(info.Env(), path, at, bytes, crc, function_of(info[1], "onRelease")));
}

const napi_type_tag AsideObject::kTag = {0x8d1c5b7a2f604e93, 0xa4e60d3b97c2581f};

void AsideObject::bind(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeAside", DefineClass(env, "NativeAside", {InstanceMethod<&AsideObject::set>("set"), InstanceMethod<&AsideObject::free>("free")}));
}

Aside& AsideObject::of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    throw Napi::TypeError::New(value.Env(), "aside: expected a NativeAside");
  }
  const auto& aside = Unwrap(value.As<Napi::Object>())->aside_;
  if (!aside) throw coded_error(value.Env(), "STORE", "the memory was freed");
  return *aside;
}

void AsideObject::set(const Napi::CallbackInfo& info) {
  const std::size_t bytes = integer_of(info[0], "bytes", 1);
  const auto list = array_of(info[1], "parts");
  try {
    char* to = of(info.This()).reserve(bytes);
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      const std::string place = "parts[" + std::to_string(i) + "]";
      const auto part = object_of(list.Get(i), place);
      const auto content = bytes_of(part.Get("bytes"), place + ".bytes");
      const std::size_t at = integer_of(part.Get("at"), place + ".at", 0, static_cast<double>(bytes));
      if (content.ByteLength() > bytes - at) throw Napi::RangeError::New(info.Env(), place + " ends behind what is set aside");
      if (content.ByteLength() > 0) copy_bytes(to + at, content.Data(), content.ByteLength());
    }
  } catch (const std::bad_alloc&) {
    throw coded_error(info.Env(), "STORE", "no memory for " + std::to_string(bytes) + " bytes that wait for room in the arena");
  }
}

}  // namespace raylite

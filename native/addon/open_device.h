// A device as JavaScript holds it: its buffers by number, the programs that were loaded on it, and how its methods are made.
#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "addon/arguments.h"
#include "core/device.h"
#include "core/error.h"

namespace raylite {

/// Runs `body`, turning the engine's errors into JavaScript's.
template <class Body>
Napi::Value guarded(Napi::Env env, Body body) {
  try {
    return body();
  } catch (const EngineError& error) {
    throw coded_error(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throw coded_error(env, "ENGINE", "out of memory");
  }
}

inline Napi::Function method(Napi::Env env, const char* name, std::function<Napi::Value(const Napi::CallbackInfo&)> body) {
  return Napi::Function::New(env, [body](const Napi::CallbackInfo& info) { return guarded(info.Env(), [&] { return body(info); }); }, name);
}

/// Where the memory of a buffer comes from: allocated on the device or on the host beside it, another buffer's of this process, another process's.
enum class Origin { kOwn, kHost, kAdopted, kOpened };

struct Buffer {
  std::shared_ptr<Memory> memory;
  Origin origin = Origin::kOwn;
  Napi::Reference<Napi::ArrayBuffer> view;  // made at the first view(): one ArrayBuffer per memory

  bool is_shared() const { return origin == Origin::kAdopted || origin == Origin::kOpened; }
};

struct LoadedProgram;

/// A device of one JavaScript environment.
struct OpenDevice {
  explicit OpenDevice(std::shared_ptr<Device> opened) : device(std::move(opened)) {}

  Device& live() {
    if (!device) throw EngineError("ENGINE", "the device was disposed");
    return *device;
  }
  std::size_t& bytes_of(Origin origin) { return bytes[static_cast<std::size_t>(origin)]; }
  std::uint32_t add(std::shared_ptr<Memory> memory, Origin origin) {
    const std::uint32_t id = next_buffer++;
    bytes_of(origin) += memory->bytes();
    buffers[id] = {std::move(memory), origin, {}};
    return id;
  }
  Buffer& buffer(std::uint32_t id) {
    live();
    const auto found = buffers.find(id);
    if (found == buffers.end()) throw EngineError("ENGINE", "buffer " + std::to_string(id) + " does not exist or was freed");
    return found->second;
  }
  void free(std::uint32_t id) {
    Buffer& known = buffer(id);
    // Whoever shares it may free it as soon as it is let go of here.
    if (known.origin == Origin::kOpened && known.memory.use_count() > 1) {
      throw EngineError("ENGINE", "buffer " + std::to_string(id) + " is another process's memory and still in use: dispose of programs and shares of it first");
    }
    release(known);
    buffers.erase(id);
  }
  void release(Buffer& buffer) {
    if (!buffer.view.IsEmpty()) buffer.view.Value().Detach();
    buffer.view.Reset();
    bytes_of(buffer.origin) -= buffer.memory->bytes();
    buffer.memory.reset();  // programs that use it hold it until they are disposed
  }

  std::shared_ptr<Device> device;
  std::map<std::uint32_t, Buffer> buffers;
  std::uint32_t next_buffer = 1;
  std::size_t bytes[4] = {};  // by origin
  std::vector<std::weak_ptr<LoadedProgram>> programs;
};

struct LoadedProgram {
  std::shared_ptr<OpenDevice> device;
  std::shared_ptr<Program> program;  // null once disposed
};

}  // namespace raylite

// A device as JavaScript holds it: its buffers by number, the programs that were loaded on it. Objects are
// plain: their methods hold what they need, so that memory lives as long as anyone can reach it.
#pragma once
#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/error.h"

namespace raylite {

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

/// The object of a device (NativeDevice). In device_binding.cpp.
Napi::Object device_object(Napi::Env env, std::shared_ptr<OpenDevice> device);
/// Its `load`: binds a plan to buffers and groups. In program_binding.cpp.
Napi::Value load(const Napi::CallbackInfo& info, const std::shared_ptr<OpenDevice>& device);
/// Its `readFile`. In read_file_binding.cpp.
Napi::Value read_file(const Napi::CallbackInfo& info, const std::shared_ptr<OpenDevice>& device);
/// Its `join`. In join_binding.cpp.
Napi::Value join(const Napi::CallbackInfo& info, OpenDevice& device);

}  // namespace raylite

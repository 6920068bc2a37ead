// Memory of the emulated devices. It cannot be touched while no stream runs; what is shared moves to a file without a name, which
// another process reaches through the one that allocated it, and only while that lives.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "emulate/device.h"

using namespace raylite::emulate;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPoisonBytesMax = 64u << 20;

/// What a handle says.
struct Place {
  int process, file, device;
  std::size_t bytes;
};
static_assert(sizeof(Place) <= sizeof(cudaIpcMemHandle_t));

bool write_all(int file, const void* from, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t count = write(file, static_cast<const char*>(from) + done, bytes - done);
    if (count <= 0) return false;
    done += static_cast<std::size_t>(count);
  }
  return true;
}

/// As on a GPU, what was put on streams before comes first.
void drain_all(Device& device) {
  drain(device, [&] {
    for (const Stream* stream : device.streams) {
      if (!stream->is_through()) return false;
    }
    return true;
  });
}

}  // namespace

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = std::size_t{8} << 30;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  Device& device = devices[current];
  const std::size_t mapped = (bytes + kPage - 1) / kPage * kPage;
  if (bytes == 0 || mapped > (std::size_t{8} << 30)) return bytes == 0 ? cudaErrorInvalidValue : cudaErrorMemoryAllocation;
  void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return cudaErrorMemoryAllocation;
  if (bytes <= kPoisonBytesMax) std::memset(at, 0xff, mapped);
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  if (device.draining == 0) mprotect(at, mapped, PROT_NONE);
  device.allocations[at] = {mapped};
  *memory = at;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  Device& device = devices[current];
  drain_all(device);
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  const auto found = device.allocations.find(memory);
  if (found == device.allocations.end() || found->second.opened > 0) return cudaErrorInvalidValue;
  munmap(memory, found->second.bytes);
  if (found->second.file >= 0) {
    // Undefined on a GPU while somebody has it open: here whoever touches it then is ended.
    if (ftruncate(found->second.file, 0) != 0) stop("shared memory cannot be taken back");
    close(found->second.file);
  }
  device.allocations.erase(found);
  return cudaSuccess;
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* memory) {
  Device& device = devices[current];
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  const auto found = device.allocations.find(memory);
  if (found == device.allocations.end() || found->second.opened > 0) return cudaErrorInvalidValue;
  Allocation& allocation = found->second;
  if (allocation.file < 0) {
    const int file = memfd_create("emulated device memory", MFD_CLOEXEC);
    if (file < 0) return cudaErrorMemoryAllocation;
    device.protect(PROT_READ | PROT_WRITE);
    const bool is_copied = write_all(file, memory, allocation.bytes);
    const bool is_moved = is_copied && mmap(memory, allocation.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == memory;
    if (device.draining == 0) device.protect(PROT_NONE);
    if (!is_moved) return close(file), cudaErrorMemoryAllocation;
    allocation.file = file;
  }
  *handle = {};
  const Place place{getpid(), allocation.file, number_of(current), allocation.bytes};
  std::memcpy(handle->reserved, &place, sizeof(place));
  return cudaSuccess;
}
cudaError_t cudaIpcOpenMemHandle(void** memory, cudaIpcMemHandle_t handle, unsigned flags) {
  Place place;
  std::memcpy(&place, handle.reserved, sizeof(place));
  if (flags != cudaIpcMemLazyEnablePeerAccess) return cudaErrorInvalidValue;
  if (place.process == getpid()) return cudaErrorDeviceUninitialized;  // a process does not open its own
  if (place.device / 2 != number_of(current) / 2) return cudaErrorPeerAccessUnsupported;
  Device& device = devices[current];
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  const std::string key(handle.reserved, sizeof(handle.reserved));
  for (auto& [at, allocation] : device.allocations) {
    if (allocation.key != key) continue;
    allocation.opened++;
    return *memory = at, cudaSuccess;
  }
  const std::string path = "/proc/" + std::to_string(place.process) + "/fd/" + std::to_string(place.file);
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return cudaErrorInvalidResourceHandle;
  void* at = mmap(nullptr, place.bytes, device.draining == 0 ? PROT_NONE : PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at == MAP_FAILED) return cudaErrorInvalidResourceHandle;
  device.allocations[at] = {place.bytes, -1, 1, key};
  *memory = at;
  return cudaSuccess;
}
cudaError_t cudaIpcCloseMemHandle(void* memory) {
  Device& device = devices[current];
  drain_all(device);
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  const auto found = device.allocations.find(memory);
  if (found == device.allocations.end() || found->second.opened == 0) return cudaErrorInvalidValue;
  if (--found->second.opened > 0) return cudaSuccess;
  munmap(memory, found->second.bytes);
  device.allocations.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  *memory = ::operator new(bytes, std::align_val_t{64});
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) { return ::operator delete(memory, std::align_val_t{64}), cudaSuccess; }

// Streams, events and memory with one owner each.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cuda/check.h"

namespace raylite::cuda {

class Stream {
 public:
  Stream() { RL_CUDA(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(handle_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

class Event {
 public:
  explicit Event(bool takes_time = false) { RL_CUDA(cudaEventCreateWithFlags(&handle_, takes_time ? 0 : cudaEventDisableTiming)); }
  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ~Event() {
    if (handle_ != nullptr) cudaEventDestroy(handle_);
  }
  cudaEvent_t get() const { return handle_; }

 private:
  cudaEvent_t handle_ = nullptr;
};

/// Plain memory of the device.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t bytes) { RL_CUDA(cudaMalloc(&data_, bytes)); }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  template <class T>
  T* as() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
};

/// Memory of the host that the device copies from and to without the host's help.
class PinnedBytes {
 public:
  explicit PinnedBytes(std::size_t bytes) { RL_CUDA(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault)); }
  ~PinnedBytes() { cudaFreeHost(data_); }
  PinnedBytes(const PinnedBytes&) = delete;
  PinnedBytes& operator=(const PinnedBytes&) = delete;
  template <class T>
  T* as() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
};

}  // namespace raylite::cuda

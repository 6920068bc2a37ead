// One GPU as this library keeps it: its streams, cuBLASLt, groups by NCCL and the constants that products point at. Opened once per device.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "core/cuda_api.h"
#include "cuda/handles.h"

namespace raylite::cuda {

class AttentionChoices;
class NcclGroups;
class Products;

class Context {
 public:
  Context(int index, const CudaLibraries& libraries);
  ~Context();

  /// Makes the device the calling thread's.
  void use() const { RL_CUDA(cudaSetDevice(index_)); }
  /// By the numbers of the plan's streams.
  cudaStream_t stream(std::uint32_t i) const { return streams_[i].get(); }
  /// Opens cuBLASLt at the first call. Throws EngineError("CUDA").
  Products& products();
  NcclGroups& groups() { return *groups_; }
  AttentionChoices& attention() { return *attention_; }
  int index() const { return index_; }
  /// A float of the device that is 1.
  const float* one() const { return constants_.as<float>(); }
  const float* zero() const { return constants_.as<float>() + 1; }
  int processors() const { return processors_; }

  void* allocate(std::size_t bytes);
  void free(void* memory);
  /// CUDA's IPC: runs have ended when their memory is shared, so that no event goes along.
  void share(void* memory, CudaMemoryHandle* handle);
  void* map(const CudaMemoryHandle& handle);
  void unmap(void* memory);
  void copy(void* to, const void* from, std::size_t bytes);

 private:
  const int index_;
  const std::string cublas_lt_path_;
  const bool has_cublas_lt_;
  int processors_ = 0;
  struct UseDevice {
    explicit UseDevice(int index) { RL_CUDA(cudaSetDevice(index)); }
  } use_;
  Stream streams_[kStreams];
  Stream copies_;
  DeviceBytes constants_;
  std::mutex copy_mutex_;
  std::unique_ptr<Products> products_;
  std::unique_ptr<NcclGroups> groups_;
  std::unique_ptr<AttentionChoices> attention_;
};

}  // namespace raylite::cuda

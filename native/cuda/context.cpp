// Memory and copies of a device.
#include "cuda/context.h"

#include <cstring>

#include "cuda/attention_choices.h"
#include "cuda/nccl_groups.h"
#include "cuda/product.h"

namespace raylite::cuda {

Context::Context(int index, const CudaLibraries& libraries)
    : index_(index),
      cublas_lt_path_(libraries.cublas_lt == nullptr ? "" : libraries.cublas_lt),
      has_cublas_lt_(libraries.cublas_lt != nullptr),
      use_(index),
      constants_(2 * sizeof(float)),
      groups_(std::make_unique<NcclGroups>(libraries.nccl)),
      attention_(std::make_unique<AttentionChoices>(libraries)) {
  cudaDeviceProp properties;
  RL_CUDA(cudaGetDeviceProperties(&properties, index));
  processors_ = properties.multiProcessorCount;
  const float values[2] = {1.0f, 0.0f};
  copy(constants_.as<void>(), values, sizeof(values));
}

Context::~Context() { cudaSetDevice(index_); }

Products& Context::products() {
  if (!products_) products_ = std::make_unique<Products>(has_cublas_lt_ ? cublas_lt_path_.c_str() : nullptr);
  return *products_;
}

void* Context::allocate(std::size_t bytes) {
  use();
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error != cudaSuccess) {
    std::size_t free_bytes = 0, total_bytes = 0;
    cudaGetLastError();
    cudaMemGetInfo(&free_bytes, &total_bytes);
    throw EngineError("ENGINE", "cannot allocate " + std::to_string(bytes) + " bytes on GPU " + std::to_string(index_) + ", which has " +
                                    std::to_string(free_bytes) + " of " + std::to_string(total_bytes) + " free: " + cudaGetErrorString(error));
  }
  RL_CUDA(cudaMemsetAsync(memory, 0, bytes, copies_.get()));
  RL_CUDA(cudaStreamSynchronize(copies_.get()));
  return memory;
}

void Context::free(void* memory) {
  cudaSetDevice(index_);
  cudaFree(memory);
}

void Context::share(void* memory, CudaMemoryHandle* to) {
  use();
  cudaIpcMemHandle_t handle;
  static_assert(sizeof(handle) == sizeof(to->bytes));
  RL_CUDA(cudaIpcGetMemHandle(&handle, memory));
  std::memcpy(to->bytes, &handle, sizeof(handle));
}

void* Context::map(const CudaMemoryHandle& from) {
  use();
  cudaIpcMemHandle_t handle;
  std::memcpy(&handle, from.bytes, sizeof(handle));
  void* memory = nullptr;
  RL_CUDA(cudaIpcOpenMemHandle(&memory, handle, cudaIpcMemLazyEnablePeerAccess));
  return memory;
}

void Context::unmap(void* memory) {
  cudaSetDevice(index_);
  cudaIpcCloseMemHandle(memory);
}

void Context::copy(void* to, const void* from, std::size_t bytes) {
  use();
  const std::lock_guard<std::mutex> lock(copy_mutex_);
  RL_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, copies_.get()));
  RL_CUDA(cudaStreamSynchronize(copies_.get()));
}

}  // namespace raylite::cuda

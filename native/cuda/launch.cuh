// How kernels are started, and what every one of them may use. The same sources are compiled by nvcc and, for tests, by the
// host's compiler against the emulated runtime (native/emulate).
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/check.h"
#include "cuda/queue.h"

#if defined(__CUDACC__)
#define RL_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define RL_UNROLL _Pragma("unroll")
#else
#define RL_DYNAMIC_SHARED(name) unsigned char* const name = ::raylite::emulate::here().dynamic_shared
#define RL_UNROLL
#endif

namespace raylite::cuda {

constexpr unsigned kFull = 0xffffffffu;  // all lanes of a warp

constexpr std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// One block for each of `count` parts of the work.
inline dim3 grid_of(std::int64_t count) {
  if (count < 1 || count > INT32_MAX) throw EngineError("ENGINE", "a kernel of " + std::to_string(count) + " blocks");
  return dim3(static_cast<unsigned>(count));
}

template <class... P, class... A>
void launch(const Queue& queue, dim3 grid, dim3 block, std::size_t shared_bytes, void (*kernel)(P...), A... arguments) {
#if defined(__CUDACC__)
  if (shared_bytes > (48u << 10)) {
    RL_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  kernel<<<grid, block, shared_bytes, queue.stream>>>(static_cast<P>(arguments)...);
  RL_CUDA(cudaGetLastError());
#else
  const emulate::Index blocks{grid.x, grid.y, grid.z}, threads{block.x, block.y, block.z};
  emulate::enqueue(queue.stream, [=] { emulate::run_grid(blocks, threads, shared_bytes, [&] { kernel(arguments...); }); });
#endif
}

/// Reports that a value is out of range.
__device__ inline void report(const Fault& fault, std::int64_t row) {
  atomicMin(fault.worst, fault.slot << kFaultRowBits | static_cast<unsigned long long>(row));
}

}  // namespace raylite::cuda

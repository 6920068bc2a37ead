// Attention by NVIDIA's library, whatever opens it: what it is given, and what it plans for.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <string>
#include <tuple>

#include "core/cuda_api.h"

namespace raylite {

inline auto fields_of(const HeadLayout& layout) { return std::tuple(layout.width, layout.offset, layout.head_stride); }
inline bool operator<(const CudaAttentionShape& a, const CudaAttentionShape& b) {
  const auto fields = [](const CudaAttentionShape& s) {
    return std::tuple(s.type, s.is_backward, s.segments, s.rows, s.heads, s.kv_heads, s.head_dim, fields_of(s.q), fields_of(s.k), fields_of(s.v), s.causal,
                      s.window, s.scale);
  };
  return fields(a) < fields(b);
}

}  // namespace raylite

namespace raylite::cuda {

/// The tensors of a shape: q, k, v and their gradients from the first head on, o and its gradient [rows, heads, columns]. `stats`: the
/// logarithms of the sums by segment, head, row.
struct AttentionTensors {
  const void* q;
  const void* k;
  const void* v;
  void* o;
  float* stats;
  const void* grad_o = nullptr;  // this and what follows: of the gradient alone
  void* dq = nullptr;
  void* dk = nullptr;
  void* dv = nullptr;
};

/// One device's. Rows of segments are a multiple of kSegmentRows, pointers and strides of 16 bytes.
class LibraryAttention {
 public:
  virtual ~LibraryAttention() = default;
  /// "cuDNN 9.19.0"
  virtual std::string name() const = 0;
  /// Makes the plan of a shape; bytes of workspace that it runs with. Throws EngineError where the library does not take the shape.
  virtual std::size_t prepare(const CudaAttentionShape& shape) = 0;
  /// Of a shape that was prepared. Allocates nothing, and can be captured.
  virtual void run(const CudaAttentionShape& shape, const AttentionTensors& tensors, void* workspace, cudaStream_t stream) = 0;
};

/// Hopper's gradient is known to give NaN where rows are an odd multiple of 64 and a row's sum is tiny.
constexpr std::int64_t kSegmentRows = 128;

/// For the calling thread's device. Throws EngineError("CUDA") that says what is missing.
std::unique_ptr<LibraryAttention> open_library_attention(const CudaLibraries& libraries);
/// Bytes of workspace on a device that need not be here. Throws EngineError.
std::size_t plan_library_attention(const CudaLibraries& libraries, const char* properties, const CudaAttentionShape& shape);

}  // namespace raylite::cuda

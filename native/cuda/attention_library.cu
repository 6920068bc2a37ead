// Attention by NVIDIA's library: which calls it may take, and our layout of the logarithms of sums beside its own.
#include "cuda/attention_library.h"

#include "cuda/attention_choices.h"
#include "cuda/context.h"
#include "cuda/launch.cuh"
#include "cuda/segments.h"

namespace raylite::cuda {

namespace {

constexpr int kThreads = 256;

/// lse[row, head] and stats[segment, head, row of it], one into the other.
__global__ void __launch_bounds__(kThreads) exchange_stats_kernel(float* lse, float* stats, std::int64_t count, std::int64_t rows, std::int64_t heads,
                                                                  bool to_lse) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t row = i / heads, head = i % heads;
  float& own = lse[i];
  float& other = stats[(row / rows * heads + head) * rows + row % rows];
  if (to_lse) own = other;
  else other = own;
}

bool is_on_16(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

bool fits(const void* p, const HeadLayout& layout) {
  return is_on_16(p) && layout.width % 8 == 0 && layout.offset % 8 == 0 && layout.head_stride % 8 == 0;
}

/// The shape of a call, if the library may take it: by its layout, and by what the host knows of its segments.
template <class Arguments>
bool shape_of(const Arguments& a, bool is_backward, DType type, const Queue& queue, CudaAttentionShape& shape) {
  if (a.dropout.random != nullptr || a.head_dim % 8 != 0 || a.head_dim > 256 || queue.stream != queue.context->stream(0)) return false;
  if (!fits(a.q, a.q_layout) || !fits(a.k, a.k_layout) || !fits(a.v, a.v_layout) || !is_on_16(a.o)) return false;
  const EqualSegments segments = queue.segments->of(a.mask, a.n);
  if (segments.rows == 0 || segments.rows % kSegmentRows != 0) return false;
  shape = {type,       is_backward, segments.count, segments.rows, a.heads,       a.kv_heads, a.head_dim,
           a.q_layout, a.k_layout,  a.v_layout,     a.mask.causal, a.mask.window, a.scale};
  return true;
}

bool put(const CudaAttentionShape& shape, const AttentionTensors& tensors, float* lse, const Queue& queue) {
  AttentionChoices& choices = queue.context->attention();
  if (queue.is_choosing) {
    choices.choose(shape, queue);
    return true;
  }
  const AttentionChoices::Library taken = choices.find(shape);
  if (taken.attention == nullptr) return false;
  put_library_attention(*taken.attention, shape, tensors, lse, taken.scratch, queue);
  return true;
}

}  // namespace

std::size_t stats_bytes(const CudaAttentionShape& shape) {
  const auto bytes = static_cast<std::size_t>(shape.segments * shape.rows * shape.heads) * sizeof(float);
  return (bytes + 255) / 256 * 256;
}

void put_library_attention(LibraryAttention& library, const CudaAttentionShape& shape, AttentionTensors tensors, float* lse, unsigned char* scratch,
                           const Queue& queue) {
  tensors.stats = reinterpret_cast<float*>(scratch);
  const std::int64_t count = shape.segments * shape.rows * shape.heads;
  const auto exchange = [&](bool to_lse) {
    launch(queue, grid_of(parts(count, kThreads)), dim3(kThreads), 0, exchange_stats_kernel, lse, tensors.stats, count, shape.rows, shape.heads, to_lse);
  };
  if (shape.is_backward) exchange(false);
  library.run(shape, tensors, scratch + stats_bytes(shape), queue.stream);
  if (!shape.is_backward) exchange(true);
}

template <class T>
bool attend_by_library(const AttentionArguments<T>& a, const Queue& queue) {
  CudaAttentionShape shape;
  if (!queue.context->attention().may_choose() || !shape_of(a, false, kDTypeOf<T>, queue, shape)) return false;
  const AttentionTensors tensors{a.q + a.q_layout.offset, a.k + a.k_layout.offset, a.v + a.v_layout.offset, a.o, nullptr};
  return put(shape, tensors, a.lse, queue);
}

template <class T>
bool attend_back_by_library(const AttentionBackwardArguments<T>& a, const Queue& queue) {
  CudaAttentionShape shape;
  if (!queue.context->attention().may_choose() || !shape_of(a, true, kDTypeOf<T>, queue, shape)) return false;
  if (!is_on_16(a.grad_o) || !is_on_16(a.dq) || !is_on_16(a.dk) || !is_on_16(a.dv)) return false;
  AttentionTensors tensors{a.q + a.q_layout.offset, a.k + a.k_layout.offset, a.v + a.v_layout.offset, const_cast<T*>(a.o), nullptr};
  tensors.grad_o = a.grad_o;
  tensors.dq = a.dq + a.q_layout.offset, tensors.dk = a.dk + a.k_layout.offset, tensors.dv = a.dv + a.v_layout.offset;
  return put(shape, tensors, const_cast<float*>(a.lse), queue);
}

template bool attend_by_library(const AttentionArguments<BFloat16>&, const Queue&);
template bool attend_by_library(const AttentionArguments<Float16>&, const Queue&);
template bool attend_back_by_library(const AttentionBackwardArguments<BFloat16>&, const Queue&);
template bool attend_back_by_library(const AttentionBackwardArguments<Float16>&, const Queue&);

}  // namespace raylite::cuda

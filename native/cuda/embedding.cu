// embedding, embedding_backward. The gradient of a table has one order: a block owns a row of dy whose entry turns up there for
// the first time and adds up all later rows of that entry, so that no two blocks meet and equal inputs give equal bits.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

template <class T>
struct Embed {
  EmbeddingArguments<T> a;
  Fault fault;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const std::int64_t row = i / a.d, column = i % a.d;
    const std::int64_t entry = a.ids[row] + a.offset;
    if (entry < a.offset || entry >= a.entries) {
      if (column == 0) report(fault, row);
      return;
    }
    Pack<W> x = {};
    if (entry >= a.start && entry < a.start + a.v) x = load_pack<W>(a.table + (entry - a.start) * a.d + column);
    if (a.addend != nullptr) {
      const Pack<W> addend = load_pack<W>(a.addend + i);
      RL_UNROLL
      for (int j = 0; j < W; j++) x.at[j] += addend.at[j];
    }
    store_pack<W>(a.y + i, x);
  }
};

struct Clear {
  float* to;
  const float* beta;
  template <int W>
  __device__ void at(std::int64_t i) const {
    if (*beta != 0.0f) return;
    Pack<W> zero;
    RL_UNROLL
    for (int j = 0; j < W; j++) zero.at[j] = 0.0f;
    store_pack<W>(to + i, zero);
  }
};

constexpr int kThreads = 128;

/// Whether any of ids[begin, end) is `id`; all threads of the block get it.
__device__ inline bool block_finds(const std::int32_t* ids, std::int64_t begin, std::int64_t end, std::int32_t id) {
  __shared__ int found;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  for (std::int64_t first = begin; first < end; first += kThreads) {
    const std::int64_t at = first + threadIdx.x;
    if (at < end && ids[at] == id) found = 1;
    __syncthreads();
    const bool stop = found != 0;
    __syncthreads();
    if (stop) return true;
  }
  return false;
}

template <class T>
__global__ void __launch_bounds__(kThreads) embedding_backward_kernel(EmbeddingBackwardArguments<T> a, Fault fault) {
  const std::int64_t row = blockIdx.x;
  const std::int32_t id = a.ids[row];
  const std::int64_t entry = id + a.offset;
  if (entry < a.offset || entry >= a.entries) {
    if (threadIdx.x == 0) report(fault, row);
    return;
  }
  if (id == a.padding || entry < a.start || entry >= a.start + a.v || block_finds(a.ids, 0, row, id)) return;
  float* to = a.dtable + (entry - a.start) * a.d;
  __shared__ std::int32_t matches[kThreads];
  __shared__ int count;
  for (std::int64_t first = row; first < a.n; first += kThreads) {
    // The rows of this stretch that have the id, in their order.
    const std::int64_t at = first + threadIdx.x;
    __syncthreads();
    matches[threadIdx.x] = at < a.n && a.ids[at] == id ? 1 : 0;
    __syncthreads();
    if (threadIdx.x == 0) {
      int n = 0;
      for (int i = 0; i < kThreads; i++) {
        if (matches[i] != 0) matches[n++] = i;
      }
      count = n;
    }
    __syncthreads();
    for (std::int64_t j = threadIdx.x; count > 0 && j < a.d; j += kThreads) {
      float sum = to[j];
      for (int i = 0; i < count; i++) sum += widen(a.dy[(first + matches[i]) * a.d + j]);
      to[j] = sum;
    }
  }
}

template <class T>
void run_embedding(const EmbeddingArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  const Fault fault = queue.faults->expect(queue, "ids", a.ids, 0, a.entries - a.offset);
  each_element<kPack<T>>(queue, a.n * a.d, a.d % kPack<T> == 0 && are_aligned(a.table, a.addend, a.y), Embed<T>{a, fault});
}

template <class T>
void run_backward(const EmbeddingBackwardArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  if (!a.accumulate) each_element<4>(queue, a.v * a.d, is_aligned(a.dtable), Clear{a.dtable, a.beta});
  const Fault fault = queue.faults->expect(queue, "ids", a.ids, 0, a.entries - a.offset);
  launch(queue, grid_of(a.n), dim3(kThreads), 0, embedding_backward_kernel<T>, a, fault);
}

}  // namespace

template <class T>
Kernel<EmbeddingArguments<T>> embedding() {
  return {run_embedding<T>, nullptr};
}
template <class T>
Kernel<EmbeddingBackwardArguments<T>> embedding_backward() {
  return {run_backward<T>, nullptr};
}

RL_FOR_TYPES(embedding, EmbeddingArguments)
RL_FOR_TYPES(embedding_backward, EmbeddingBackwardArguments)

}  // namespace raylite::cuda

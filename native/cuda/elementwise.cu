// add, scale, cast, copy, fill, gather_rows.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Multiply {
  float factor;
  __device__ float operator()(float x) const { return x * factor; }
};
struct Same {
  __device__ float operator()(float x) const { return x; }
};

template <class T>
struct Fill {
  FillArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> x;
    RL_UNROLL
    for (int j = 0; j < W; j++) x.at[j] = a.value;
    store_pack<W>(a.y + i, x);
  }
};

/// Element i of y[M,D].
template <class T>
struct GatherRows {
  GatherRowsArguments<T> a;
  Fault fault;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const std::int64_t row = i / a.d;
    const std::int64_t from = a.index[row];
    if (from < 0 || from >= a.n) {
      if (i % a.d == 0) report(fault, row);
      return;
    }
    store_pack<W>(a.y + i, load_pack<W>(a.x + from * a.d + i % a.d));
  }
};

template <class T>
void run_cast(const CastArguments<T>& a, const Team& team) {
  const auto to = [&](auto* y) { map(*team.queue, a.n, Same{}, a.x, y); };
  if (a.to == DType::kBF16) {
    to(static_cast<BFloat16*>(a.y));
  } else if (a.to == DType::kF16) {
    to(static_cast<Float16*>(a.y));
  } else {
    to(static_cast<float*>(a.y));
  }
}

template <class T>
void run_gather(const GatherRowsArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  const Fault fault = queue.faults->expect(queue, "index", a.index, 0, a.n);
  each_element<kPack<T>>(queue, a.m * a.d, are_aligned(a.x, a.y) && a.d % kPack<T> == 0, GatherRows<T>{a, fault});
}

}  // namespace

template <class T>
Kernel<AddArguments<T>> add() {
  return {[](const AddArguments<T>& a, const Team& team) { map(*team.queue, a.n, Sum{}, a.a, a.b, a.y); }, nullptr};
}
template <class T>
Kernel<ScaleArguments<T>> scale() {
  return {[](const ScaleArguments<T>& a, const Team& team) { map(*team.queue, a.n, Multiply{a.factor}, a.x, a.y); }, nullptr};
}
template <class T>
Kernel<CastArguments<T>> cast() {
  return {run_cast<T>, nullptr};
}
template <class T>
Kernel<CopyArguments<T>> copy() {
  return {[](const CopyArguments<T>& a, const Team& team) {
            RL_CUDA(cudaMemcpyAsync(a.y, a.a, static_cast<std::size_t>(a.n) * sizeof(T), cudaMemcpyDefault, team.queue->stream));
          },
          nullptr};
}
template <class T>
Kernel<FillArguments<T>> fill() {
  return {[](const FillArguments<T>& a, const Team& team) { each_element<kPack<T>>(*team.queue, a.n, is_aligned(a.y), Fill<T>{a}); }, nullptr};
}
template <class T>
Kernel<GatherRowsArguments<T>> gather_rows() {
  return {run_gather<T>, nullptr};
}

RL_FOR_TYPES(add, AddArguments)
RL_FOR_TYPES(scale, ScaleArguments)
RL_FOR_TYPES(cast, CastArguments)
RL_FOR_TYPES(copy, CopyArguments)
RL_FOR_TYPES(fill, FillArguments)
RL_FOR_TYPES(gather_rows, GatherRowsArguments)

}  // namespace raylite::cuda

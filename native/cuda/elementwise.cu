// add, scale, cast, copy, fill, gather_rows.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

template <class T>
struct Add {
  AddArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> x = load_pack<W>(a.a + i);
    const Pack<W> y = load_pack<W>(a.b + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) x.at[j] += y.at[j];
    store_pack<W>(a.y + i, x);
  }
};

template <class T>
struct Scale {
  ScaleArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> x = load_pack<W>(a.x + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) x.at[j] *= a.factor;
    store_pack<W>(a.y + i, x);
  }
};

template <class From, class To>
struct Cast {
  const From* x;
  To* y;
  template <int W>
  __device__ void at(std::int64_t i) const {
    store_pack<W>(y + i, load_pack<W>(x + i));
  }
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

template <class From, class To>
void run_cast(const CastArguments<From>& a, const Team& team) {
  const Cast<From, To> op{a.x, static_cast<To*>(a.y)};
  each_element<8>(*team.queue, a.n, are_aligned(op.x, op.y), op);
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
  return {[](const AddArguments<T>& a, const Team& team) { each_element<kPack<T>>(*team.queue, a.n, are_aligned(a.a, a.b, a.y), Add<T>{a}); },
          nullptr};
}
template <class T>
Kernel<ScaleArguments<T>> scale() {
  return {[](const ScaleArguments<T>& a, const Team& team) { each_element<kPack<T>>(*team.queue, a.n, are_aligned(a.x, a.y), Scale<T>{a}); },
          nullptr};
}
template <class T>
Kernel<CastArguments<T>> cast() {
  return {[](const CastArguments<T>& a, const Team& team) {
            if (a.to == DType::kBF16) {
              run_cast<T, BFloat16>(a, team);
            } else if (a.to == DType::kF16) {
              run_cast<T, Float16>(a, team);
            } else {
              run_cast<T, float>(a, team);
            }
          },
          nullptr};
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

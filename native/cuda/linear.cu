// linear and its gradients: products of cuBLASLt. A bias rides along in the product, and so does an activation that it has, where nobody
// reads the value before. Else an activation is a pass of its own over what the product left, in the storage type: activation
// checkpointing makes it again from there, to the same bits.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/math.cuh"
#include "cuda/product.h"
#include "cuda/row_sums.cuh"

namespace raylite::cuda {

namespace {

template <class T>
void run_activation(const Queue& queue, Activation kind, const T* x, T* y, std::int64_t n) {
  if (kind == Activation::kNone && x == y) return;
  with_kind(kind, [&](auto of) { map(queue, n, Activate<decltype(of)::value>{}, x, y); });
}

/// What cuBLASLt does not add to sums in f32: a bias in 16 bits.
template <class T>
struct AddBias {
  float* y;
  const T* bias;
  std::int64_t columns;
  template <int W>
  __device__ void at(std::int64_t i) const {
    y[i] += widen(bias[i % columns]);
  }
};

template <class T>
void run_linear(const LinearArguments<T>& a, const Team& team) {
  Product p;
  p.type = kDTypeOf<T>;
  p.m = a.n, p.n = a.o, p.k = a.i;
  p.a = a.x, p.a_row = a.i, p.a_col = 1;
  p.b = a.w, p.b_row = a.transposed ? a.o : 1, p.b_col = a.transposed ? 1 : a.i;
  p.ldc = a.o;
  p.bias = a.bias;
  if (a.wide != nullptr) {
    p.c = a.wide, p.result = DType::kF32;
    p.bias = nullptr;
    multiply(*team.queue, p, team.workspace);
    if (a.bias != nullptr) each_element<1>(*team.queue, a.n * a.o, true, AddBias<T>{a.wide, a.bias, a.o});
    run_activation(*team.queue, a.activation, a.wide, a.wide, a.n * a.o);
    return;
  }
  p.result = p.type;
  if (a.pre == nullptr && a.activation != Activation::kNone) {
    p.c = a.y, p.activation = a.activation;
    if (multiply(*team.queue, p, team.workspace)) return;
    p.activation = Activation::kNone;
  }
  T* before = a.pre != nullptr ? a.pre : a.y;
  p.c = before;
  multiply(*team.queue, p, team.workspace);
  run_activation(*team.queue, a.activation, before, a.y, a.n * a.o);
}

template <class T>
void run_backward_input(const LinearBackwardInputArguments<T>& a, const Team& team) {
  Product p;
  p.type = p.result = kDTypeOf<T>;
  p.m = a.n, p.n = a.i, p.k = a.o;
  p.a = a.dy, p.a_row = a.o, p.a_col = 1;
  p.b = a.w, p.b_row = a.transposed ? 1 : a.i, p.b_col = a.transposed ? a.o : 1;
  p.c = a.dx, p.ldc = a.i;
  if (a.addend != nullptr) {
    if (a.addend != a.dx) {
      const std::size_t bytes = static_cast<std::size_t>(a.n * a.i) * sizeof(T);
      RL_CUDA(cudaMemcpyAsync(a.dx, a.addend, bytes, cudaMemcpyDeviceToDevice, team.queue->stream));
    }
    p.beta = one_of(*team.queue);
  }
  multiply(*team.queue, p, team.workspace);
}

template <class T>
void run_backward_weight(const LinearBackwardWeightArguments<T>& a, const Team& team) {
  const Queue& queue = *team.queue;
  if (a.dbias != nullptr) {
    auto* sums = reinterpret_cast<float*>(team.workspace + kProductWorkspaceBytes);
    add_columns(queue, a.dy, a.n, a.o, a.o, sums, a.dbias, a.beta, a.accumulate);
  }
  Product p;
  p.type = kDTypeOf<T>;
  p.m = a.transposed ? a.i : a.o, p.n = a.transposed ? a.o : a.i, p.k = a.n;
  p.a = a.transposed ? a.x : a.dy, p.a_row = 1, p.a_col = p.m;
  p.b = a.transposed ? a.dy : a.x, p.b_row = p.n, p.b_col = 1;
  p.c = a.dw, p.ldc = p.n;
  p.beta = a.accumulate ? one_of(queue) : a.beta;
  multiply(queue, p, team.workspace);
}

}  // namespace

template <class T>
Kernel<LinearArguments<T>> linear() {
  return {run_linear<T>, [](const LinearArguments<T>&, int) { return kProductWorkspaceBytes; }};
}
template <class T>
Kernel<LinearBackwardInputArguments<T>> linear_backward_input() {
  return {run_backward_input<T>, [](const LinearBackwardInputArguments<T>&, int) { return kProductWorkspaceBytes; }};
}
template <class T>
Kernel<LinearBackwardWeightArguments<T>> linear_backward_weight() {
  return {run_backward_weight<T>, [](const LinearBackwardWeightArguments<T>& a, int) { return kProductWorkspaceBytes + row_parts_bytes(a.n, a.o); }};
}

RL_FOR_TYPES(linear, LinearArguments)
RL_FOR_TYPES(linear_backward_input, LinearBackwardInputArguments)
RL_FOR_TYPES(linear_backward_weight, LinearBackwardWeightArguments)

}  // namespace raylite::cuda

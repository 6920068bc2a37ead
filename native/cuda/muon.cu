// muon: momentum in one pass over m and g, then products of cuBLASLt in 32 bits. With S = 3.4445 I - 4.775 A + 2.0315 A^2 an
// iteration is three products: A = X X^T, A^2, S X. The side of A is the shorter one of the matrix.
#include <algorithm>
#include <utility>

#include "cuda/kernels.h"
#include "cuda/product.h"
#include "cuda/reduce.cuh"
#include "cuda/step.cuh"

namespace raylite::cuda {

namespace {

constexpr float kLinear = 3.4445f;
constexpr float kCubic = -4.7750f;
constexpr float kQuintic = 2.0315f;
constexpr int kThreads = 256;
constexpr std::int64_t kBlocksMax = 512;

std::int64_t lines(std::int64_t floats) { return (floats + 15) / 16 * 16; }

/// m and x = u; each block leaves the sum of squares of its part of u.
template <class F>
__global__ void __launch_bounds__(kThreads) momentum_kernel(MuonArguments<F> a, float* x, double* squares) {
  if (a.factor[0] != a.factor[0]) return;  // NaN: no step; the whole grid leaves
  const float factor = a.factor[0], momentum = static_cast<float>(a.momentum), rest = static_cast<float>(1.0 - a.momentum);
  double total = 0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.n; i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const float g = a.g[i] * factor;
    float m = widen(a.m[i]);
    m += rest * (g - m);
    const float u = a.nesterov ? g + momentum * (m - g) : m;
    a.m[i] = stepped<typename F::S>(m, chances_of(a, i).low);
    x[i] = u;
    total += static_cast<double>(u) * static_cast<double>(u);
  }
  total = sum_block(total);
  if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

__global__ void size_kernel(const double* squares, std::int64_t count, float* size) {
  double total = 0;
  for (std::int64_t i = 0; i < count; i++) total += squares[i];
  *size = static_cast<float>(1.0 / (sqrt(total) + 1e-7));
}

struct Normalise {
  float* x;
  const float* size;
  template <int W>
  __device__ void at(std::int64_t i) const {
    x[i] *= *size;
  }
};

/// S, where `to` holds A^2.
struct Polynomial {
  const float* gram;
  float* to;
  std::int64_t side;
  template <int W>
  __device__ void at(std::int64_t i) const {
    to[i] = kCubic * gram[i] + kQuintic * to[i] + (i / side == i % side ? kLinear : 0.0f);
  }
};

template <class F>
struct Finish {
  MuonArguments<F> a;
  const float* x;
  template <int W>
  __device__ void at(std::int64_t i) const {
    if (a.factor[0] != a.factor[0]) {
      if constexpr (!std::is_same_v<typename F::R, float>) a.rounded[i] = narrow<typename F::R>(widen(a.p[i]));
      return;
    }
    const double lr = static_cast<double>(a.lr[0]);
    const double ratio = static_cast<double>(a.rows) / static_cast<double>(a.columns);
    const float shrink = static_cast<float>(1.0 - lr * a.weight_decay);
    const float rate = static_cast<float>(lr * sqrt(ratio > 1.0 ? ratio : 1.0));
    const float p = widen(a.p[i]) * shrink - rate * x[i];
    a.p[i] = stepped<typename F::P>(p, chances_of(a, i).high);
    if constexpr (!std::is_same_v<typename F::R, float>) a.rounded[i] = narrow<typename F::R>(p);
  }
};

Product square(std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b, float* c) {
  Product p;
  p.m = m, p.n = n, p.k = k;
  p.a = a, p.a_row = k, p.a_col = 1;
  p.b = b, p.b_row = n, p.b_col = 1;
  p.c = c, p.ldc = n;
  return p;
}

template <class F>
void run_muon(const MuonArguments<F>& a, const Team& team) {
  const Queue& queue = *team.queue;
  const std::int64_t least = std::min(a.rows, a.columns);
  const bool is_tall = a.rows > a.columns;
  float* x = a.workspace;
  float* next = x + lines(a.n);
  float* gram = next + lines(a.n);
  float* polynomial = gram + lines(least * least);
  auto* squares = reinterpret_cast<double*>(team.workspace + kProductWorkspaceBytes);
  auto* size = reinterpret_cast<float*>(squares + kBlocksMax);
  const std::int64_t blocks = std::min(parts(a.n, kThreads), kBlocksMax);
  launch(queue, grid_of(blocks), dim3(kThreads), 0, momentum_kernel<F>, a, x, squares);
  launch(queue, dim3(1), dim3(1), 0, size_kernel, squares, blocks, size);
  each_element<1>(queue, a.n, true, Normalise{x, size});
  for (std::int64_t iteration = 0; iteration < a.iterations; iteration++) {
    Product p = square(least, least, is_tall ? a.rows : a.columns, x, x, gram);
    p.a_row = is_tall ? 1 : a.columns, p.a_col = is_tall ? a.columns : 1;
    p.b_row = p.a_col, p.b_col = p.a_row;
    multiply(queue, p, team.workspace);
    multiply(queue, square(least, least, least, gram, gram, polynomial), team.workspace);
    each_element<1>(queue, least * least, true, Polynomial{gram, polynomial, least});
    multiply(queue, square(a.rows, a.columns, least, is_tall ? x : polynomial, is_tall ? polynomial : x, next), team.workspace);
    std::swap(x, next);
  }
  each_element<1>(queue, a.n, true, Finish<F>{a, x});
}

}  // namespace

template <class F>
Kernel<MuonArguments<F>> muon() {
  return {run_muon<F>, [](const MuonArguments<F>&, int) { return kProductWorkspaceBytes + static_cast<std::size_t>(kBlocksMax + 1) * sizeof(double); }};
}
RL_FOR_FORMS(muon, MuonArguments)

}  // namespace raylite::cuda

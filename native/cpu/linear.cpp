// linear and its gradients: three shapes of the same product.
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/reduce_rows.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

template <class T, class C>
void project(const LinearArguments<T>& a, C* y, const Team& team) {
  Gemm<T, C> g{};
  g.m = a.n, g.n = a.o, g.k = a.i;
  g.a = a.x, g.a_row = a.i, g.a_col = 1;
  g.b = a.w, g.b_row = a.transposed ? a.o : 1, g.b_col = a.transposed ? 1 : a.i;
  g.c = y, g.ldc = a.o;
  g.bias = a.bias, g.pre = a.pre, g.activation = a.activation;
  gemm(g, team, team.workspace);
}

}  // namespace

template <class T>
static void linear_of(const LinearArguments<T>& a, const Team& team) {
  if (a.wide != nullptr) {
    project(a, a.wide, team);
  } else {
    project(a, a.y, team);
  }
}

template <class T>
static void linear_backward_input_of(const LinearBackwardInputArguments<T>& a, const Team& team) {
  Gemm<T, T> g{};
  g.m = a.n, g.n = a.i, g.k = a.o;
  g.a = a.dy, g.a_row = a.o, g.a_col = 1;
  g.b = a.w, g.b_row = a.transposed ? 1 : a.i, g.b_col = a.transposed ? a.o : 1;
  g.c = a.dx, g.ldc = a.i;
  g.accumulate = std::is_same_v<T, float> && a.addend == a.dx;
  g.addend = g.accumulate ? nullptr : a.addend;
  gemm(g, team, team.workspace);
}

namespace {

/// A sum that carries along what rounding took from it (Kahan): biases of keys have gradients near zero, out of terms
/// that cancel, and Adam makes full steps of what is left.
struct CompensatedSum {
  Floats sum{};
  Floats lost{};
};
RL_INLINE void add_to(CompensatedSum& total, Floats x) {
  const Floats corrected = x - total.lost;
  const Floats next = total.sum + corrected;
  total.lost = (next - total.sum) - corrected;
  total.sum = next;
}

}  // namespace

template <class T>
static void linear_backward_weight_of(const LinearBackwardWeightArguments<T>& a, const Team& team) {
  const bool adds = a.accumulate || a.beta[0] != 0.0f;
  if (a.dbias != nullptr) {
    // Columns are split, so that every sum has one owner and runs over the rows in order.
    const Range columns = share(team, a.o, 4 * kLanes);
    for (std::int64_t j = columns.begin; j < columns.end; j += 4 * kLanes) {
      const std::int64_t width = min_of(4 * kLanes, columns.end - j);
      CompensatedSum sums[4];
      if (width == 4 * kLanes) {
        for (std::int64_t row = 0; row < a.n; row++) {
          for (int k = 0; k < 4; k++) add_to(sums[k], load(a.dy + row * a.o + j + k * kLanes));
        }
      } else {
        for (std::int64_t row = 0; row < a.n; row++) {
          each_vector(width, [&](std::int64_t at, int n) { add_to(sums[at / kLanes], load_n(a.dy + row * a.o + j + at, n)); });
        }
      }
      each_vector(width, [&](std::int64_t at, int n) {
        float* to = a.dbias + j + at;
        const Floats sum = sums[at / kLanes].sum;
        store_n(to, adds ? load_n(to, n) + sum : sum, n);
      });
    }
  }
  Gemm<T, float> g{};
  const T* left = a.transposed ? a.x : a.dy;
  const T* right = a.transposed ? a.dy : a.x;
  g.m = a.transposed ? a.i : a.o, g.n = a.transposed ? a.o : a.i, g.k = a.n;
  g.a = left, g.a_row = 1, g.a_col = g.m;
  g.b = right, g.b_row = g.n, g.b_col = 1;
  g.c = a.dw, g.ldc = g.n;
  g.accumulate = adds;
  gemm(g, team, team.workspace);
}

template <class T>
static std::size_t linear_workspace_of(const LinearArguments<T>& a, int threads) {
  return gemm_workspace_of<T>(a.n, a.o, a.i, threads);
}

template <class T>
static std::size_t linear_backward_input_workspace_of(const LinearBackwardInputArguments<T>& a, int threads) {
  return gemm_workspace_of<T>(a.n, a.i, a.o, threads);
}

template <class T>
static std::size_t linear_backward_weight_workspace_of(const LinearBackwardWeightArguments<T>& a, int threads) {
  return a.transposed ? gemm_workspace_of<float>(a.i, a.o, a.n, threads) : gemm_workspace_of<float>(a.o, a.i, a.n, threads);
}

RL_DEFINE(linear, LinearArguments)
RL_DEFINE(linear_backward_input, LinearBackwardInputArguments)
RL_DEFINE(linear_backward_weight, LinearBackwardWeightArguments)
RL_DEFINE_WORKSPACE(linear, LinearArguments)
RL_DEFINE_WORKSPACE(linear_backward_input, LinearBackwardInputArguments)
RL_DEFINE_WORKSPACE(linear_backward_weight, LinearBackwardWeightArguments)

}  // namespace raylite::RL_ISA

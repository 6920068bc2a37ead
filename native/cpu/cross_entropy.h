// What the head with its loss is made of, whether the vocabulary is whole or parted: rows with a label listed and brought together,
// sums over the logits of a row, and the products of a chunk of rows with their gradients.
#pragma once
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

RL_INLINE float sum_of(const float* values, std::int64_t count) {
  Floats sums{};
  each_vector(count, [&](std::int64_t j, int n) { sums += load_n(values + j, n); });
  return sum_lanes(sums);
}

/// sum of e^(x - top) * (top - x) over the logits x of a row.
RL_INLINE float spread_of(const float* logits, std::int64_t count, float top) {
  Floats sums{};
  const Floats shift = broadcast(top);
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Floats below = shift - load(logits + j);
    sums += exp_of(Floats{} - below) * below;
  }
  float rest = 0;
  if (whole < count) {
    const int n = static_cast<int>(count - whole);
    const Floats below = shift - load_first(logits + whole, n);
    const Floats terms = exp_of(Floats{} - below) * below;
    for (int lane = 0; lane < n; lane++) rest += terms[lane];
  }
  return sum_lanes(sums) + rest;
}

/// The team's memory of one call: what the products need, a chunk of rows, and the numbers of the rows that count.
struct LossWorkspace {
  std::uint8_t* products;
  float* packed;            // [chunk, D]: rows of x brought together, then gradients by rows of x
  std::int32_t* rows;       // [N]
  std::int32_t* row_count;  // [1]
};

RL_INLINE std::size_t whole_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class T>
static std::size_t products_bytes(const LinearCrossEntropyArguments<T>& a, int threads) {
  const std::int64_t rows = min_of(a.chunk, a.n);
  const std::size_t forward = gemm_workspace_of<float>(rows, a.v, a.d, threads);
  const std::size_t input = gemm_workspace_of<float>(rows, a.d, a.v, threads);
  const std::size_t weight = a.transposed ? gemm_workspace_of<float>(a.d, a.v, rows, threads)
                                          : gemm_workspace_of<float>(a.v, a.d, rows, threads);
  const std::size_t most = forward > input ? forward : input;
  return whole_lines(most > weight ? most : weight);
}

template <class T>
static std::size_t packed_bytes(const LinearCrossEntropyArguments<T>& a) {
  return whole_lines(static_cast<std::size_t>(min_of(a.chunk, a.n) * a.d) * 4);
}

template <class T>
static std::size_t loss_workspace_bytes(const LinearCrossEntropyArguments<T>& a, int threads) {
  return products_bytes(a, threads) + packed_bytes(a) + static_cast<std::size_t>(a.n + 1) * 4;
}

template <class T>
static LossWorkspace loss_workspace(const LinearCrossEntropyArguments<T>& a, const Team& team) {
  std::uint8_t* packed = team.workspace + products_bytes(a, team.count);
  auto* rows = reinterpret_cast<std::int32_t*>(packed + packed_bytes(a));
  return {team.workspace, reinterpret_cast<float*>(packed), rows, rows + a.n};
}

/// Lists the rows with a label; calls none(row) for the others. Thread 0 alone.
template <class None>
static void list_rows(const std::int32_t* labels, std::int64_t count, std::int64_t classes, const LossWorkspace& to,
                      const Team& team, None none) {
  std::int32_t found = 0;
  for (std::int64_t row = 0; row < count; row++) {
    const std::int64_t label = labels[row];
    if (label >= 0 && label < classes) {
      to.rows[found++] = static_cast<std::int32_t>(row);
    } else {
      if (label != -100) team.fail_value("labels", row, label, 0, classes);
      none(row);
    }
  }
  to.row_count[0] = found;
}

/// The rows of x that are listed from rows[0] on, one after the other: where they are if they follow each other, else brought together.
template <class T>
static const T* rows_together(const LinearCrossEntropyArguments<T>& a, const std::int32_t* rows, std::int64_t count,
                              const LossWorkspace& workspace, const Team& team) {
  if (rows[count - 1] - rows[0] + 1 == count) return a.x + rows[0] * a.d;
  T* packed = reinterpret_cast<T*>(workspace.packed);
  const Range mine = share(team, count, 1);
  for (std::int64_t i = mine.begin; i < mine.end; i++) {
    __builtin_memcpy(packed + i * a.d, a.x + rows[i] * a.d, static_cast<std::size_t>(a.d) * sizeof(T));
  }
  team.barrier();
  return packed;
}

/// The logits of `count` rows.
template <class T>
static void logits_of(const LinearCrossEntropyArguments<T>& a, const T* x, std::int64_t count, const LossWorkspace& workspace,
                      const Team& team) {
  Gemm<T, float> forward{};
  forward.m = count, forward.n = a.v, forward.k = a.d;
  forward.a = x, forward.a_row = a.d, forward.a_col = 1;
  forward.b = a.w, forward.b_row = a.transposed ? a.v : 1, forward.b_col = a.transposed ? 1 : a.d;
  forward.c = a.logits, forward.ldc = a.v;
  gemm(forward, team, workspace.products);
}

template <class T>
static void add_bias(const LinearCrossEntropyArguments<T>& a, float* logits) {
  if (a.bias == nullptr) return;
  each_vector(a.v, [&](std::int64_t j, int n) { store_n(logits + j, load_n(logits + j, n) + load_n(a.bias + j, n), n); });
}

/// The gradients of the chunk's logits: rows in the places of the logits, which may be longer.
template <class T>
struct LogitGradients {
  const T* values;
  std::int64_t stride;
  explicit LogitGradients(const LinearCrossEntropyArguments<T>& a)
      : values(reinterpret_cast<const T*>(a.logits)), stride(a.v * static_cast<std::int64_t>(sizeof(float) / sizeof(T))) {}
};

/// dbias[V] (+)= the columns of the chunk's gradients summed.
template <class T>
static void add_bias_gradient(const LinearCrossEntropyArguments<T>& a, std::int64_t chunk, bool adds, const Team& team) {
  const LogitGradients<T> gradients(a);
  const Range columns = share(team, a.v, kLanes);
  float* to = a.dbias + columns.begin;
  each_vector(columns.end - columns.begin, [&](std::int64_t j, int n) {
    Floats sum = adds ? load_n(to + j, n) : broadcast(0);
    for (std::int64_t i = 0; i < chunk; i++) sum += load_n(gradients.values + i * gradients.stride + columns.begin + j, n);
    store_n(to + j, sum, n);
  });
}

/// Gradients that nothing is added to and no row gives.
static void clear_gradient(float* values, std::int64_t count, const Team& team) {
  const Range mine = share_elements(team, count);
  if (values == nullptr || mine.begin >= mine.end) return;
  __builtin_memset(values + mine.begin, 0, static_cast<std::size_t>(mine.end - mine.begin) * 4);
}

/// From the gradients of a chunk's logits: dw and dbias (+)= theirs, and the rows of dx that are listed from rows[0] on.
template <class T>
static void chunk_gradients(const LinearCrossEntropyArguments<T>& a, const T* x, const std::int32_t* rows, std::int64_t chunk,
                            bool adds, const LossWorkspace& workspace, const Team& team) {
  const bool is_run = rows[chunk - 1] - rows[0] + 1 == chunk;
  if (a.dbias != nullptr) add_bias_gradient(a, chunk, adds, team);
  const LogitGradients<T> gradients(a);
  if (a.dw != nullptr) {
    Gemm<T, float> weight{};
    weight.m = a.transposed ? a.d : a.v, weight.n = a.transposed ? a.v : a.d, weight.k = chunk;
    weight.a = a.transposed ? x : gradients.values, weight.a_row = 1;
    weight.a_col = a.transposed ? a.d : gradients.stride;
    weight.b = a.transposed ? gradients.values : x, weight.b_col = 1;
    weight.b_row = a.transposed ? gradients.stride : a.d;
    weight.c = a.dw, weight.ldc = weight.n;
    weight.accumulate = adds;
    gemm(weight, team, workspace.products);
  }

  // The packed rows of x have served: their gradients take their place, unless they can be written where they belong.
  float* sums = workspace.packed;
  bool is_written = false;
  if constexpr (std::is_same_v<T, float>) {
    is_written = is_run;
    if (is_run) sums = a.dx + rows[0] * a.d;
  }
  Gemm<T, float> input{};
  input.m = chunk, input.n = a.d, input.k = a.v;
  input.a = gradients.values, input.a_row = gradients.stride, input.a_col = 1;
  input.b = a.w, input.b_row = a.transposed ? 1 : a.d, input.b_col = a.transposed ? a.v : 1;
  input.c = sums, input.ldc = a.d;
  gemm(input, team, workspace.products);
  if (is_written) return;
  const Range mine = share(team, chunk, 1);
  for (std::int64_t i = mine.begin; i < mine.end; i++) {
    T* dx = a.dx + rows[i] * a.d;
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(dx + j, load_n(sums + i * a.d + j, n), n); });
  }
  team.barrier();
}

/// scale times the sum of the losses, each times its weight.
template <class T>
static float total_loss(const LinearCrossEntropyArguments<T>& a) {
  double total = 0;
  for (std::int64_t i = 0; i < a.n; i++) {
    const double weight = a.weights == nullptr ? 1 : static_cast<double>(a.weights[i]);
    if (a.token_losses[i] != 0.0f) total += weight * static_cast<double>(a.token_losses[i]);
  }
  return static_cast<float>(total * static_cast<double>(a.scale[0]));
}

}  // namespace raylite::RL_ISA

// linear_cross_entropy with and without gradients. Only rows with a label are computed (fine-tuning labels completions
// alone). One chunk of them at a time: logits by a product, softmax in place (which turns them into their gradient, in the
// type of x), then the two products of the gradient while the chunk is warm.
#include "cpu/exp_sum.h"
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

float sum_of(const float* values, std::int64_t count) {
  Floats sums{};
  each_vector(count, [&](std::int64_t j, int n) { sums += load_n(values + j, n); });
  return sum_lanes(sums);
}

/// sum of e^(x - top) * (top - x) over the logits x of a row.
float spread_of(const float* logits, std::int64_t count, float top) {
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

/// The loss of row `row`. When `gradient`, its gradient times scale and weight takes the place of the logits, from the front on.
template <class T>
float row_loss(const LinearCrossEntropyArguments<T>& a, float* logits, std::int64_t row, bool gradient) {
  const std::int64_t v = a.v, label = a.labels[row];
  if (a.bias != nullptr) {
    each_vector(v, [&](std::int64_t j, int n) { store_n(logits + j, load_n(logits + j, n) + load_n(a.bias + j, n), n); });
  }
  const float smooth = a.label_smoothing;
  const float mean = smooth == 0 ? 0 : sum_of(logits, v) / static_cast<float>(v);
  const float chosen = logits[label];
  const auto [top, sum] = exp_sum(logits, v, gradient ? logits : nullptr);
  const float log_sum = __builtin_logf(sum);
  const float z = log_sum + top;
  if (gradient) {
    const float scale = a.weights == nullptr ? a.scale[0] : a.scale[0] * a.weights[row];
    const Floats factor = broadcast(scale * (1 + 2 * a.z_loss * z) / sum);
    const Floats shared = broadcast(scale * smooth / static_cast<float>(v));
    const float own = logits[label] * factor[0] - shared[0] - scale * (1 - smooth);
    T* to = reinterpret_cast<T*>(logits);
    each_vector(v, [&](std::int64_t j, int n) { store_n(to + j, load_n(logits + j, n) * factor - shared, n); });
    store_one(to + label, own);
  }
  if (a.entropies != nullptr) a.entropies[row] = log_sum + spread_of(logits, v, top) / sum;
  // Differences of logits before products with them: large logits cancel.
  return log_sum + (top - chosen) + smooth * (chosen - mean) + a.z_loss * z * z;
}

/// The team's memory of one call: what the products need, a chunk of rows, and the numbers of the rows that count.
struct Workspace {
  std::uint8_t* products;
  float* packed;            // [chunk, D]: rows of x brought together, then gradients by rows of x
  std::int32_t* rows;       // [N]
  std::int32_t* row_count;  // [1]
};

std::size_t whole_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class T>
std::size_t products_bytes(const LinearCrossEntropyArguments<T>& a, int threads) {
  const std::int64_t rows = min_of(a.chunk, a.n);
  const std::size_t forward = gemm_workspace_of<float>(rows, a.v, a.d, threads);
  const std::size_t input = gemm_workspace_of<float>(rows, a.d, a.v, threads);
  const std::size_t weight = a.transposed ? gemm_workspace_of<float>(a.d, a.v, rows, threads)
                                          : gemm_workspace_of<float>(a.v, a.d, rows, threads);
  const std::size_t most = forward > input ? forward : input;
  return whole_lines(most > weight ? most : weight);
}

template <class T>
std::size_t packed_bytes(const LinearCrossEntropyArguments<T>& a) {
  return whole_lines(static_cast<std::size_t>(min_of(a.chunk, a.n) * a.d) * 4);
}

template <class T>
Workspace workspace_of(const LinearCrossEntropyArguments<T>& a, const Team& team) {
  std::uint8_t* packed = team.workspace + products_bytes(a, team.count);
  auto* rows = reinterpret_cast<std::int32_t*>(packed + packed_bytes(a));
  return {team.workspace, reinterpret_cast<float*>(packed), rows, rows + a.n};
}

/// Lists the rows with a label; the others cost nothing but their zeros. Thread 0 alone.
template <class T>
void list_rows(const LinearCrossEntropyArguments<T>& a, const Workspace& to, const Team& team) {
  std::int32_t count = 0;
  for (std::int64_t row = 0; row < a.n; row++) {
    const std::int64_t label = a.labels[row];
    if (label >= 0 && label < a.v) {
      to.rows[count++] = static_cast<std::int32_t>(row);
    } else {
      if (label != -100) team.fail_value("labels", row, label, 0, a.v);
      a.token_losses[row] = 0;
      if (a.entropies != nullptr) a.entropies[row] = 0;
      if (a.dx != nullptr) __builtin_memset(a.dx + row * a.d, 0, static_cast<std::size_t>(a.d) * sizeof(T));
    }
  }
  to.row_count[0] = count;
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
void add_bias_gradient(const LinearCrossEntropyArguments<T>& a, std::int64_t chunk, bool adds, const Team& team) {
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
void clear(float* values, std::int64_t count, const Team& team) {
  const Range mine = share_elements(team, count);
  if (values == nullptr || mine.begin >= mine.end) return;
  __builtin_memset(values + mine.begin, 0, static_cast<std::size_t>(mine.end - mine.begin) * 4);
}

}  // namespace

template <class T>
static void linear_cross_entropy_of(const LinearCrossEntropyArguments<T>& a, const Team& team) {
  const bool gradient = a.dx != nullptr;
  const float scale = a.scale[0];
  const Workspace workspace = workspace_of(a, team);
  const std::size_t row_bytes = static_cast<std::size_t>(a.d) * sizeof(T);
  if (team.index == 0) list_rows(a, workspace, team);
  team.barrier();
  const std::int64_t count = workspace.row_count[0];
  bool adds = gradient && (a.accumulate || a.beta[0] != 0.0f);
  if (gradient && !adds && count == 0) {
    clear(a.dw, a.v * a.d, team);
    clear(a.dbias, a.v, team);
  }

  for (std::int64_t done = 0; done < count; done += a.chunk) {
    const std::int32_t* rows = workspace.rows + done;
    const std::int64_t chunk = min_of(a.chunk, count - done);
    // Rows that follow each other are used where they are, others are brought together.
    const bool is_run = rows[chunk - 1] - rows[0] + 1 == chunk;
    T* packed = reinterpret_cast<T*>(workspace.packed);
    const T* x = is_run ? a.x + rows[0] * a.d : packed;
    if (!is_run) {
      const Range mine = share(team, chunk, 1);
      for (std::int64_t i = mine.begin; i < mine.end; i++) {
        __builtin_memcpy(packed + i * a.d, a.x + rows[i] * a.d, row_bytes);
      }
      team.barrier();
    }

    Gemm<T, float> forward{};
    forward.m = chunk, forward.n = a.v, forward.k = a.d;
    forward.a = x, forward.a_row = a.d, forward.a_col = 1;
    forward.b = a.w, forward.b_row = a.transposed ? a.v : 1, forward.b_col = a.transposed ? 1 : a.d;
    forward.c = a.logits, forward.ldc = a.v;
    gemm(forward, team, workspace.products);

    for (std::int64_t i = team.claim(); i < chunk; i = team.claim()) {
      a.token_losses[rows[i]] = row_loss(a, a.logits + i * a.v, rows[i], gradient);
    }
    team.barrier();
    if (!gradient) continue;

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
    adds = true;

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
    if (!is_written) {
      const Range mine = share(team, chunk, 1);
      for (std::int64_t i = mine.begin; i < mine.end; i++) {
        T* dx = a.dx + rows[i] * a.d;
        each_vector(a.d, [&](std::int64_t j, int n) { store_n(dx + j, load_n(sums + i * a.d + j, n), n); });
      }
      team.barrier();
    }
  }
  if (team.index != 0) return;
  double total = 0;
  for (std::int64_t i = 0; i < a.n; i++) {
    const double weight = a.weights == nullptr ? 1 : static_cast<double>(a.weights[i]);
    if (a.token_losses[i] != 0.0f) total += weight * static_cast<double>(a.token_losses[i]);
  }
  a.loss[0] = static_cast<float>(total * static_cast<double>(scale));
}

template <class T>
static std::size_t linear_cross_entropy_workspace_of(const LinearCrossEntropyArguments<T>& a, int threads) {
  return products_bytes(a, threads) + packed_bytes(a) + static_cast<std::size_t>(a.n + 1) * 4;
}

RL_DEFINE(linear_cross_entropy, LinearCrossEntropyArguments)
RL_DEFINE_WORKSPACE(linear_cross_entropy, LinearCrossEntropyArguments)

}  // namespace raylite::RL_ISA

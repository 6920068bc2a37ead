// linear_cross_entropy with and without gradients. One chunk of rows at a time: logits by a product, softmax in place
// (which turns them into their gradient), then the two products of the gradient while the chunk is warm.
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

/// The loss of one row, whose logits become (softmax - onehot) * scale when `gradient`.
float row_loss(float* logits, std::int64_t v, std::int64_t label, float scale, bool gradient) {
  Floats most = broadcast(-3.4e38f);
  std::int64_t whole = v / kLanes * kLanes;
  for (std::int64_t j = 0; j < whole; j += kLanes) most = larger(load(logits + j), most);
  float top = max_lanes(most);
  for (std::int64_t j = whole; j < v; j++) top = logits[j] > top ? logits[j] : top;
  const float chosen = logits[label];
  Floats sums{};
  const Floats shift = broadcast(top);
  float rest = 0;
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Floats e = exp_of(load(logits + j) - shift);
    sums += e;
    if (gradient) store(logits + j, e);
  }
  if (whole < v) {
    const int n = static_cast<int>(v - whole);
    const Floats e = exp_of(load_first(logits + whole, n) - shift);
    for (int lane = 0; lane < n; lane++) rest += e[lane];
    if (gradient) store_first(logits + whole, e, n);
  }
  const float sum = sum_lanes(sums) + rest;
  if (gradient) {
    const Floats factor = broadcast(scale / sum);
    each_vector(v, [&](std::int64_t j, int n) { store_n(logits + j, load_n(logits + j, n) * factor, n); });
    logits[label] -= scale;
  }
  return __builtin_logf(sum) + top - chosen;
}

}  // namespace

void linear_cross_entropy(const LinearCrossEntropyArguments& a, const Team& team) {
  const bool gradient = a.dx != nullptr;
  const float scale = a.scale[0];
  bool dw_adds = gradient && (a.accumulate || a.beta[0] != 0.0f);
  for (std::int64_t row0 = 0; row0 < a.n; row0 += a.chunk) {
    const std::int64_t rows = min_of(a.chunk, a.n - row0);
    Gemm forward{};
    forward.m = rows, forward.n = a.v, forward.k = a.d;
    forward.a = a.x + row0 * a.d, forward.a_row = a.d, forward.a_col = 1;
    forward.b = a.w, forward.b_row = a.transposed ? a.v : 1, forward.b_col = a.transposed ? 1 : a.d;
    forward.c = a.logits, forward.ldc = a.v;
    gemm(forward, team, team.workspace);

    for (std::int64_t i = team.claim(); i < rows; i = team.claim()) {
      const std::int64_t label = a.labels[row0 + i];
      float* logits = a.logits + i * a.v;
      if (label >= 0 && label < a.v) {
        a.token_losses[row0 + i] = row_loss(logits, a.v, label, scale, gradient);
      } else {
        if (label != -100) team.fail_value("labels", row0 + i, label, 0, a.v);
        a.token_losses[row0 + i] = 0;
        if (gradient) __builtin_memset(logits, 0, static_cast<std::size_t>(a.v) * 4);
      }
    }
    team.barrier();
    if (!gradient) continue;

    Gemm input{};
    input.m = rows, input.n = a.d, input.k = a.v;
    input.a = a.logits, input.a_row = a.v, input.a_col = 1;
    input.b = a.w, input.b_row = a.transposed ? 1 : a.d, input.b_col = a.transposed ? a.v : 1;
    input.c = a.dx + row0 * a.d, input.ldc = a.d;
    gemm(input, team, team.workspace);

    Gemm weight{};
    const float* x = a.x + row0 * a.d;
    weight.m = a.transposed ? a.d : a.v, weight.n = a.transposed ? a.v : a.d, weight.k = rows;
    weight.a = a.transposed ? x : a.logits, weight.a_row = 1, weight.a_col = weight.m;
    weight.b = a.transposed ? a.logits : x, weight.b_row = weight.n, weight.b_col = 1;
    weight.c = a.dw, weight.ldc = weight.n;
    weight.accumulate = dw_adds;
    gemm(weight, team, team.workspace);
    dw_adds = true;
  }
  if (team.index != 0) return;
  double total = 0;
  for (std::int64_t i = 0; i < a.n; i++) total += static_cast<double>(a.token_losses[i]);
  a.loss[0] = static_cast<float>(total * static_cast<double>(scale));
}

namespace {
std::size_t chunk_workspace(const LinearCrossEntropyArguments& a, std::int64_t rows, int threads) {
  const std::size_t forward = gemm_workspace(rows, a.v, a.d, threads);
  const std::size_t input = gemm_workspace(rows, a.d, a.v, threads);
  const std::size_t weight = a.transposed ? gemm_workspace(a.d, a.v, rows, threads) : gemm_workspace(a.v, a.d, rows, threads);
  const std::size_t most = forward > input ? forward : input;
  return most > weight ? most : weight;
}
}  // namespace

std::size_t linear_cross_entropy_workspace(const LinearCrossEntropyArguments& a, int threads) {
  const std::size_t whole = chunk_workspace(a, min_of(a.chunk, a.n), threads);
  const std::int64_t rest = a.n % a.chunk;
  const std::size_t last = rest == 0 ? 0 : chunk_workspace(a, rest, threads);
  return whole > last ? whole : last;
}

}  // namespace raylite::RL_ISA

// linear_cross_entropy with and without gradients. Only rows with a label are computed (fine-tuning labels completions
// alone). One chunk of them at a time: logits by a product, softmax in place (which turns them into their gradient, in the
// type of x), then the two products of the gradient while the chunk is warm.
#include "cpu/cross_entropy.h"
#include "cpu/exp_sum.h"

namespace raylite::RL_ISA {

namespace {

/// The loss of row `row`. When `gradient`, its gradient times scale and weight takes the place of the logits, from the front on.
template <class T>
float row_loss(const LinearCrossEntropyArguments<T>& a, float* logits, std::int64_t row, bool gradient) {
  const std::int64_t v = a.v, label = a.labels[row];
  add_bias(a, logits);
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

/// What a row without a label has.
template <class T>
void leave_out(const LinearCrossEntropyArguments<T>& a, std::int64_t row) {
  a.token_losses[row] = 0;
  if (a.entropies != nullptr) a.entropies[row] = 0;
  if (a.dx != nullptr) __builtin_memset(a.dx + row * a.d, 0, static_cast<std::size_t>(a.d) * sizeof(T));
}

}  // namespace

template <class T>
static void linear_cross_entropy_of(const LinearCrossEntropyArguments<T>& a, const Team& team) {
  const bool gradient = a.dx != nullptr;
  const LossWorkspace workspace = loss_workspace(a, team);
  if (team.index == 0) list_rows(a.labels, a.n, a.v, workspace, team, [&](std::int64_t row) { leave_out(a, row); });
  team.barrier();
  const std::int64_t count = workspace.row_count[0];
  bool adds = gradient && (a.accumulate || a.beta[0] != 0.0f);
  if (gradient && !adds && count == 0) {
    clear_gradient(a.dw, a.v * a.d, team);
    clear_gradient(a.dbias, a.v, team);
  }

  for (std::int64_t done = 0; done < count; done += a.chunk) {
    const std::int32_t* rows = workspace.rows + done;
    const std::int64_t chunk = min_of(a.chunk, count - done);
    const T* x = rows_together(a, rows, chunk, workspace, team);
    logits_of(a, x, chunk, workspace, team);
    for (std::int64_t i = team.claim(); i < chunk; i = team.claim()) {
      a.token_losses[rows[i]] = row_loss(a, a.logits + i * a.v, rows[i], gradient);
    }
    team.barrier();
    if (!gradient) continue;
    chunk_gradients(a, x, rows, chunk, adds, workspace, team);
    adds = true;
  }
  if (team.index == 0) a.loss[0] = total_loss(a);
}

template <class T>
static std::size_t linear_cross_entropy_workspace_of(const LinearCrossEntropyArguments<T>& a, int threads) {
  return loss_workspace_bytes(a, threads);
}

RL_DEFINE(linear_cross_entropy, LinearCrossEntropyArguments)
RL_DEFINE_WORKSPACE(linear_cross_entropy, LinearCrossEntropyArguments)

}  // namespace raylite::RL_ISA

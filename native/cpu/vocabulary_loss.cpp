// vocabulary_logits, vocabulary_loss, vocabulary_loss_grad. Every rank lists the same labelled rows, and puts the stats of all ranks
// together in the order of ranks, so that all of them find the same bits.
#include "cpu/cross_entropy.h"
#include "cpu/exp_sum.h"

namespace raylite::RL_ISA {

namespace {

enum Stat { kTop, kSum, kChosen, kTotal, kSpread };

/// What all parts say of a row.
struct Combined {
  float top, sum, chosen, total, spread;
};

template <class T>
float* stat_of(const VocabularyLossArguments<T>& a, std::int64_t rank, Stat stat, std::int64_t row) {
  return a.stats + (rank * kVocabularyStats + stat) * a.loss.chunk + row;
}

template <class T>
Combined combine(const VocabularyLossArguments<T>& a, std::int64_t row) {
  Combined all{-3.4e38f, 0, 0, 0, 0};
  for (std::int64_t rank = 0; rank < a.ranks; rank++) {
    const float top = *stat_of(a, rank, kTop, row);
    all.top = top > all.top ? top : all.top;
  }
  for (std::int64_t rank = 0; rank < a.ranks; rank++) {
    const float below = all.top - *stat_of(a, rank, kTop, row);
    const float sum = *stat_of(a, rank, kSum, row);
    if (sum == 0) continue; // a part of padding alone
    const float share = __builtin_expf(-below);
    all.sum += share * sum;
    all.spread += share * (*stat_of(a, rank, kSpread, row) + below * sum);
    all.chosen += *stat_of(a, rank, kChosen, row);
    all.total += *stat_of(a, rank, kTotal, row);
  }
  return all;
}

struct RowLoss {
  float loss, z, entropy;
};

template <class T>
RowLoss loss_of(const VocabularyLossArguments<T>& a, const Combined& all) {
  const float smooth = a.loss.label_smoothing;
  const float log_sum = __builtin_logf(all.sum);
  const float z = log_sum + all.top;
  const float mean = smooth == 0 ? 0 : all.total / static_cast<float>(a.entries);
  const float loss = log_sum + (all.top - all.chosen) + smooth * (all.chosen - mean) + a.loss.z_loss * z * z;
  return {loss, z, log_sum + all.spread / all.sum};
}

/// The chunk's rows in the list; the list is made and complete behind this.
template <class T>
Range chunk_of(const VocabularyLossArguments<T>& a, const LossWorkspace& workspace, const Team& team) {
  const LinearCrossEntropyArguments<T>& loss = a.loss;
  const bool is_first = a.chunk_index == 0;
  if (team.index == 0) {
    list_rows(loss.labels, loss.n, a.entries, workspace, team, [&](std::int64_t row) {
      if (is_first && loss.token_losses != nullptr) loss.token_losses[row] = 0;
      if (is_first && loss.entropies != nullptr) loss.entropies[row] = 0;
      if (is_first && loss.dx != nullptr) __builtin_memset(loss.dx + row * loss.d, 0, static_cast<std::size_t>(loss.d) * sizeof(T));
    });
  }
  team.barrier();
  const std::int64_t count = workspace.row_count[0];
  const std::int64_t begin = min_of(count, a.chunk_index * loss.chunk);
  return {begin, min_of(count, begin + loss.chunk)};
}

/// Losses of rows in later chunks are not known yet.
template <class T>
void forget_later(const VocabularyLossArguments<T>& a, const LossWorkspace& workspace, std::int64_t end) {
  if (a.chunk_index > 0) return;
  for (std::int64_t i = end; i < workspace.row_count[0]; i++) a.loss.token_losses[workspace.rows[i]] = 0;
}

}  // namespace

template <class T>
static void vocabulary_logits_of(const VocabularyLossArguments<T>& a, const Team& team) {
  const LinearCrossEntropyArguments<T>& loss = a.loss;
  const LossWorkspace workspace = loss_workspace(loss, team);
  const std::int64_t all = a.ranks * kVocabularyStats * loss.chunk;
  clear_gradient(a.stats, all, team);
  const Range chunk = chunk_of(a, workspace, team);
  if (chunk.begin >= chunk.end) return;
  const std::int32_t* rows = workspace.rows + chunk.begin;
  const std::int64_t count = chunk.end - chunk.begin;
  logits_of(loss, rows_together(loss, rows, count, workspace, team), count, workspace, team);
  for (std::int64_t i = team.claim(); i < count; i = team.claim()) {
    float* logits = loss.logits + i * loss.v;
    add_bias(loss, logits);
    const std::int64_t label = loss.labels[rows[i]] - a.start;
    if (label >= 0 && label < a.columns) *stat_of(a, a.rank, kChosen, i) = logits[label];
    *stat_of(a, a.rank, kTotal, i) = sum_of(logits, a.columns);
    if (a.has_spread) *stat_of(a, a.rank, kSpread, i) = spread_of(logits, a.columns, exp_sum(logits, a.columns, nullptr).top);
    const auto [top, sum] = exp_sum(logits, a.columns, logits);
    *stat_of(a, a.rank, kTop, i) = top;
    *stat_of(a, a.rank, kSum, i) = sum;
  }
}

static void vocabulary_loss_of(const VocabularyLossArguments<float>& a, const Team& team) {
  const LinearCrossEntropyArguments<float>& loss = a.loss;
  auto* rows = reinterpret_cast<std::int32_t*>(team.workspace);
  const LossWorkspace workspace{nullptr, nullptr, rows, rows + loss.n};
  const Range chunk = chunk_of(a, workspace, team);
  if (team.index != 0) return;
  for (std::int64_t i = chunk.begin; i < chunk.end; i++) {
    const RowLoss row = loss_of(a, combine(a, i - chunk.begin));
    loss.token_losses[workspace.rows[i]] = row.loss;
    if (loss.entropies != nullptr) loss.entropies[workspace.rows[i]] = row.entropy;
  }
  forget_later(a, workspace, chunk.end);
  loss.loss[0] = total_loss(loss);
}

template <class T>
static void vocabulary_loss_grad_of(const VocabularyLossArguments<T>& a, const Team& team) {
  const LinearCrossEntropyArguments<T>& loss = a.loss;
  const LossWorkspace workspace = loss_workspace(loss, team);
  const Range chunk = chunk_of(a, workspace, team);
  const bool adds = a.chunk_index > 0 || loss.accumulate || loss.beta[0] != 0.0f;
  if (chunk.begin < chunk.end) {
    const std::int32_t* rows = workspace.rows + chunk.begin;
    const std::int64_t count = chunk.end - chunk.begin;
    for (std::int64_t i = team.claim(); i < count; i = team.claim()) {
      const Combined all = combine(a, i);
      const RowLoss row = loss_of(a, all);
      loss.token_losses[rows[i]] = row.loss;
      float* logits = loss.logits + i * loss.v;
      const float scale = loss.weights == nullptr ? loss.scale[0] : loss.scale[0] * loss.weights[rows[i]];
      const float share = __builtin_expf(*stat_of(a, a.rank, kTop, i) - all.top);
      const Floats factor = broadcast(scale * (1 + 2 * loss.z_loss * row.z) / all.sum * share);
      const Floats shared = broadcast(scale * loss.label_smoothing / static_cast<float>(a.entries));
      const std::int64_t label = loss.labels[rows[i]] - a.start;
      const bool is_here = label >= 0 && label < a.columns;
      const float own = is_here ? logits[label] * factor[0] - shared[0] - scale * (1 - loss.label_smoothing) : 0;
      T* to = reinterpret_cast<T*>(logits);
      each_vector(a.columns, [&](std::int64_t j, int n) { store_n(to + j, load_n(logits + j, n) * factor - shared, n); });
      for (std::int64_t j = a.columns; j < loss.v; j++) store_one(to + j, 0.0f);
      if (is_here) store_one(to + label, own);
    }
    team.barrier();
    chunk_gradients(loss, rows_together(loss, rows, count, workspace, team), rows, count, adds, workspace, team);
  } else if (!adds) {
    clear_gradient(loss.dw, loss.v * loss.d, team);
    clear_gradient(loss.dbias, loss.v, team);
  }
  if (team.index != 0) return;
  forget_later(a, workspace, chunk.end);
  loss.loss[0] = total_loss(loss);
}

template <class T>
static std::size_t vocabulary_logits_workspace_of(const VocabularyLossArguments<T>& a, int threads) {
  return loss_workspace_bytes(a.loss, threads);
}

template <class T>
static std::size_t vocabulary_loss_grad_workspace_of(const VocabularyLossArguments<T>& a, int threads) {
  return loss_workspace_bytes(a.loss, threads);
}

RL_DEFINE(vocabulary_logits, VocabularyLossArguments)
RL_DEFINE_WORKSPACE(vocabulary_logits, VocabularyLossArguments)
RL_DEFINE(vocabulary_loss_grad, VocabularyLossArguments)
RL_DEFINE_WORKSPACE(vocabulary_loss_grad, VocabularyLossArguments)

void vocabulary_loss(const VocabularyLossArguments<float>& a, const Team& team) { vocabulary_loss_of(a, team); }
std::size_t vocabulary_loss_workspace(const VocabularyLossArguments<float>& a, int threads) {
  return static_cast<std::size_t>(a.loss.n + 1) * 4;
}

}  // namespace raylite::RL_ISA

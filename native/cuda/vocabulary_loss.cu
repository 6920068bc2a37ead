// vocabulary_logits, vocabulary_loss, vocabulary_loss_grad. A chunk is of all rows, labelled or not: how many are is not known before
// the run; those without a label take part with zeros. A block takes a row, and puts the stats of all ranks together in their order.
#include "cuda/cross_entropy.cuh"
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

enum Stat { kTop, kSum, kChosen, kTotal, kSpread };

/// The rows of a chunk.
struct Chunk {
  std::int64_t first, rows;
};
template <class T>
Chunk chunk_of(const VocabularyLossArguments<T>& a) {
  const std::int64_t first = a.chunk_index * a.loss.chunk, left = a.loss.n - first;
  return {first, left < 0 ? 0 : left < a.loss.chunk ? left : a.loss.chunk};
}

template <class T>
__device__ inline float* stat_of(const VocabularyLossArguments<T>& a, std::int64_t rank, Stat stat, std::int64_t row) {
  return a.stats + (rank * kVocabularyStats + stat) * a.loss.chunk + row;
}

/// The loss of a row, of what all parts say of it.
struct RowLoss {
  float top, sum, z, loss, entropy;
};
template <class T>
__device__ inline RowLoss combine(const VocabularyLossArguments<T>& a, std::int64_t row) {
  float top = -3.4e38f, sum = 0, chosen = 0, total = 0, spread = 0;
  for (std::int64_t rank = 0; rank < a.ranks; rank++) top = fmaxf(top, *stat_of(a, rank, kTop, row));
  for (std::int64_t rank = 0; rank < a.ranks; rank++) {
    const float part = *stat_of(a, rank, kSum, row);
    if (part == 0) continue;  // of padding alone
    const float below = top - *stat_of(a, rank, kTop, row);
    const float share = expf(-below);
    sum += share * part;
    spread += share * (*stat_of(a, rank, kSpread, row) + below * part);
    chosen += *stat_of(a, rank, kChosen, row);
    total += *stat_of(a, rank, kTotal, row);
  }
  const float smooth = a.loss.label_smoothing;
  const float log_sum = logf(sum);
  const float z = log_sum + top;
  const float mean = smooth == 0 ? 0 : total / static_cast<float>(a.entries);
  return {top, sum, z, log_sum + (top - chosen) + smooth * (chosen - mean) + a.loss.z_loss * z * z, log_sum + spread / sum};
}

template <class T>
__device__ inline bool is_labelled(const VocabularyLossArguments<T>& a, std::int64_t row) {
  return a.loss.labels[row] >= 0 && a.loss.labels[row] < a.entries;
}

/// What this part says of row blockIdx.x of the chunk; its logits become e^(x - largest).
template <class T>
__global__ void __launch_bounds__(kLossThreads) stats_kernel(VocabularyLossArguments<T> a, std::int64_t first, Fault fault) {
  const std::int64_t i = blockIdx.x, row = first + i;
  if (!is_labelled(a, row)) {
    if (threadIdx.x == 0 && a.loss.labels[row] != -100) report(fault, row);
    return;
  }
  float* logits = a.loss.logits + i * a.loss.v;
  TopSum seen{-INFINITY, 0.0f};
  float plain = 0;
  for (std::int64_t j = threadIdx.x; j < a.columns; j += kLossThreads) {
    const float logit = logit_of(a.loss, logits, j);
    take(seen, logit);
    plain += logit;
  }
  const TopSum all = merge_block(seen);
  const float total = sum_block(plain);
  float spread = 0;
  const std::int64_t label = a.loss.labels[row] - a.start;
  for (std::int64_t j = threadIdx.x; j < a.columns; j += kLossThreads) {
    const float logit = logit_of(a.loss, logits, j), below = all.top - logit, e = expf(-below);
    if (j == label) *stat_of(a, a.rank, kChosen, i) = logit;
    spread += e * below;
    logits[j] = e;
  }
  spread = a.has_spread ? sum_block(spread) : 0.0f;
  if (threadIdx.x != 0) return;
  *stat_of(a, a.rank, kTop, i) = fmaxf(all.top, -3.4e38f);
  *stat_of(a, a.rank, kSum, i) = all.sum;
  *stat_of(a, a.rank, kTotal, i) = total;
  *stat_of(a, a.rank, kSpread, i) = spread;
}

/// The losses of the chunk's rows.
template <class T>
struct Losses {
  VocabularyLossArguments<T> a;
  std::int64_t first;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const bool counts = is_labelled(a, first + i);
    const RowLoss row = counts ? combine(a, i) : RowLoss{};
    a.loss.token_losses[first + i] = row.loss;
    if (a.loss.entropies != nullptr) a.loss.entropies[first + i] = row.entropy;
  }
};

/// The gradient of the logits of row blockIdx.x of the chunk, in their place.
template <class T>
__global__ void __launch_bounds__(kLossThreads) gradient_kernel(VocabularyLossArguments<T> a, std::int64_t first) {
  const std::int64_t i = blockIdx.x, row = first + i;
  const auto& loss = a.loss;
  float* logits = loss.logits + i * loss.v;
  if (!is_labelled(a, row)) {
    for (std::int64_t j = threadIdx.x; j < loss.v; j += kLossThreads) reinterpret_cast<T*>(logits)[j] = narrow<T>(0.0f);
    return;
  }
  const RowLoss all = combine(a, i);
  const float scale = loss.weights == nullptr ? loss.scale[0] : loss.scale[0] * loss.weights[row];
  const float share = expf(*stat_of(a, a.rank, kTop, i) - all.top);
  const float factor = scale * (1 + 2 * loss.z_loss * all.z) / all.sum * share;
  const float shared = scale * loss.label_smoothing / static_cast<float>(a.entries);
  const std::int64_t label = loss.labels[row] - a.start;
  rewrite_row<T>(logits, loss.v, [&](std::int64_t j, float e) {
    if (j >= a.columns) return 0.0f;
    const float slope = e * factor - shared;
    return j == label ? slope - scale * (1 - loss.label_smoothing) : slope;
  });
}

template <class T>
void run_logits(const VocabularyLossArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  const Chunk chunk = chunk_of(a);
  const auto count = static_cast<std::size_t>(a.ranks * kVocabularyStats * a.loss.chunk);
  RL_CUDA(cudaMemsetAsync(a.stats, 0, count * sizeof(float), queue.stream));
  const Fault fault = queue.faults->expect(queue, "labels", a.loss.labels, 0, a.entries);
  if (chunk.rows == 0) return;
  multiply_logits(a.loss, chunk.first, chunk.rows, team);
  launch(queue, grid_of(chunk.rows), dim3(kLossThreads), 0, stats_kernel<T>, a, chunk.first, fault);
}

/// Losses of rows in later chunks are not known yet.
template <class T>
void put_losses(const VocabularyLossArguments<T>& a, const Queue& queue) {
  const Chunk chunk = chunk_of(a);
  const auto bytes = static_cast<std::size_t>(a.loss.n) * sizeof(float);
  if (a.chunk_index == 0) RL_CUDA(cudaMemsetAsync(a.loss.token_losses, 0, bytes, queue.stream));
  if (chunk.rows > 0) each_element<1>(queue, chunk.rows, true, Losses<T>{a, chunk.first});
  add_up_losses(a.loss, queue);
}

void run_loss(const VocabularyLossArguments<float>& a, const Team& team) { put_losses(a, *team.queue); }

template <class T>
void run_gradient(const VocabularyLossArguments<T>& a, const Team& team) {
  put_losses(a, *team.queue);
  const Chunk chunk = chunk_of(a);
  if (chunk.rows == 0) return;
  launch(*team.queue, grid_of(chunk.rows), dim3(kLossThreads), 0, gradient_kernel<T>, a, chunk.first);
  multiply_back(a.loss, chunk.first, chunk.rows, team);
}

}  // namespace

template <class T>
Kernel<VocabularyLossArguments<T>> vocabulary_logits() {
  return {run_logits<T>, [](const VocabularyLossArguments<T>& a, int) { return loss_workspace(a.loss); }};
}
template <class T>
Kernel<VocabularyLossArguments<T>> vocabulary_loss_grad() {
  return {run_gradient<T>, [](const VocabularyLossArguments<T>& a, int) { return loss_workspace(a.loss); }};
}
Kernel<VocabularyLossArguments<float>> vocabulary_loss() {
  return {run_loss, nullptr};
}

RL_FOR_TYPES(vocabulary_logits, VocabularyLossArguments)
RL_FOR_TYPES(vocabulary_loss_grad, VocabularyLossArguments)

}  // namespace raylite::cuda

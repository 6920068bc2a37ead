// target_loss: heads of a few columns, so plain loops; rows split among threads, their sum in the order of the rows.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

/// log(1 + e^x) - x t without overflow.
float binary_cross_entropy(float x, float t) {
  const float size = x < 0 ? -x : x;
  return (x > 0 ? x : 0.0f) - x * t + __builtin_log1pf(__builtin_expf(-size));
}

float sigmoid(float x) {
  if (x >= 0) return 1.0f / (1.0f + __builtin_expf(-x));
  const float e = __builtin_expf(x);
  return e / (1.0f + e);
}

float share_of_row(TargetLoss kind, std::int64_t l) {
  return kind == TargetLoss::kUpstream ? 1.0f : 1.0f / static_cast<float>(l);
}

}  // namespace

template <class T>
static void target_loss_of(const TargetLossArguments<T>& a, const Team& team) {
  const float share = share_of_row(a.kind, a.l);
  const Range rows = share_rows(team, a.n, a.l);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    double sum = 0;
    for (std::int64_t j = i * a.l; j < (i + 1) * a.l; j++) {
      const float x = load_one(a.x + j), t = a.targets[j];
      if (t != t) continue;
      if (a.kind == TargetLoss::kSquaredError) sum += static_cast<double>((x - t) * (x - t));
      if (a.kind == TargetLoss::kBinaryCrossEntropy) sum += static_cast<double>(binary_cross_entropy(x, t));
      if (a.kind == TargetLoss::kUpstream) sum += static_cast<double>(x) * static_cast<double>(t);
    }
    a.row_losses[i] = static_cast<float>(sum) * share;
  }
  team.barrier();
  if (team.index != 0) return;
  double total = 0;
  for (std::int64_t i = 0; i < a.n; i++) total += static_cast<double>(a.row_losses[i]);
  a.loss[0] = static_cast<float>(total * static_cast<double>(a.scale[0]));
}

template <class T>
static void target_loss_backward_of(const TargetLossBackwardArguments<T>& a, const Team& team) {
  const float factor = a.scale[0] * share_of_row(a.kind, a.l);
  const Range rows = share_rows(team, a.n, a.l);
  for (std::int64_t j = rows.begin * a.l; j < rows.end * a.l; j++) {
    const float x = load_one(a.x + j), t = a.targets[j];
    float slope = t;
    if (a.kind == TargetLoss::kSquaredError) slope = 2 * (x - t);
    if (a.kind == TargetLoss::kBinaryCrossEntropy) slope = sigmoid(x) - t;
    store_one(a.dx + j, t == t ? factor * slope : 0.0f);
  }
}

RL_DEFINE(target_loss, TargetLossArguments)
RL_DEFINE(target_loss_backward, TargetLossBackwardArguments)

}  // namespace raylite::RL_ISA

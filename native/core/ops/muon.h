// One step of Muon on one matrix in place: momentum, then its orthogonalisation by Newton-Schulz iterations
// (K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), decay apart from it.
#pragma once
#include "core/ops/step.h"

namespace raylite {

/// With g' = g * factor[0], matrices [rows, columns]:
///   m += (1 - momentum) * (g' - m); u = nesterov ? g' + momentum * (m - g') : m; X = u / (|u| + 1e-7)
///   `iterations` times: A = X X^T (X^T X when rows > columns), X = 3.4445 X - 4.775 A X + 2.0315 A^2 X
///   p = p * (1 - lr * weight_decay) - lr * sqrt(max(1, rows / columns)) * X
/// The workspace holds muon_workspace_floats(); everything is computed in 32 bits. The whole matrix decays.
template <class F>
struct MuonArguments : StepArguments<F> {
  typename F::S* m;
  float* workspace;
  std::int64_t rows, columns;
  std::int64_t iterations;
  double momentum;
  bool nesterov;
};

/// Two copies of X, then A and its polynomial, each from a 64-byte line on.
std::int64_t muon_workspace_floats(std::int64_t rows, std::int64_t columns);

}  // namespace raylite

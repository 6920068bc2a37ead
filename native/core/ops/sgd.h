// One step of stochastic gradient descent in place, with momentum as torch.optim.SGD has it.
#pragma once
#include "core/ops/step.h"

namespace raylite {

/// g' = g * factor[0] + weight_decay * p; m = momentum * m + (1 - dampening) * g' (m = g' in step 1);
/// p -= lr[0] * (nesterov ? g' + momentum * m : m). Without m: p -= lr[0] * g'.
template <class F>
struct SgdArguments : StepArguments<F> {
  typename F::S* m;  // or nullptr
  const float* step;
  double momentum, dampening;
  bool nesterov;
};

}  // namespace raylite

// One step of Adagrad in place (Duchi et al. 2011) as torch.optim.Adagrad has it.
#pragma once
#include "core/ops/step.h"

namespace raylite {

/// g' = g * factor[0] + weight_decay * p; s += g'^2; p -= lr / (1 + (step - 1) * lr_decay) * g' / (sqrt(s) + eps).
/// step[0] counts from 1.
template <class F>
struct AdagradArguments : StepArguments<F> {
  typename F::S* s;
  const float* step;
  double eps, lr_decay;
};

}  // namespace raylite

// One step of Adagrad in place (Duchi et al. 2011) as torch.optim.Adagrad has it.
#pragma once
#include <cstdint>

namespace raylite {

/// g' = g * factor[0] + weight_decay * p; s += g'^2; p -= lr / (1 + (step - 1) * lr_decay) * g' / (sqrt(s) + eps).
/// Elements from decay_end on do not decay. step[0] counts from 1.
/// A factor that is NaN leaves everything as it is.
struct AdagradArguments {
  float* p;
  float* s;
  const float* g;
  const float* factor;
  const float* lr;
  const float* step;
  std::int64_t n, decay_end;
  double eps, lr_decay, weight_decay;
};

}  // namespace raylite

// One step of stochastic gradient descent in place, with momentum as torch.optim.SGD has it.
#pragma once
#include <cstdint>

namespace raylite {

/// g' = g * factor[0] + weight_decay * p; m = momentum * m + (1 - dampening) * g' (m = g' in step 1);
/// p -= lr[0] * (nesterov ? g' + momentum * m : m). Without m: p -= lr[0] * g'. Elements from decay_end on do not decay.
/// A factor that is NaN leaves everything as it is.
struct SgdArguments {
  float* p;
  float* m;  // or nullptr
  const float* g;
  const float* factor;
  const float* lr;
  const float* step;
  std::int64_t n, decay_end;
  double momentum, dampening, weight_decay;
  bool nesterov;
};

}  // namespace raylite

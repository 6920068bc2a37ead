// sgd: one pass over p, m (if any), g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

void sgd(const SgdArguments& a, const Team& team) {
  if (a.factor[0] != a.factor[0]) return;  // NaN: no step
  const Floats factor = broadcast(a.factor[0]);
  const Floats lr = broadcast(a.lr[0]);
  const Floats momentum = broadcast(static_cast<float>(a.momentum));
  const Floats rest = broadcast(a.step[0] <= 1.0f ? 1.0f : static_cast<float>(1.0 - a.dampening));
  step_elements(team, a.n, a.decay_end, a.weight_decay, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats l2 = broadcast(static_cast<float>(decay));
    each_vector(end - begin, [&](std::int64_t j, int n) {
      const std::int64_t i = begin + j;
      const Floats p = load_n(a.p + i, n);
      Floats g = fma(l2, p, load_n(a.g + i, n) * factor);
      if (a.m != nullptr) {
        const Floats m = momentum * load_n(a.m + i, n) + rest * g;
        store_n(a.m + i, m, n);
        g = a.nesterov ? fma(momentum, m, g) : m;
      }
      store_n(a.p + i, p - lr * g, n);
    });
  });
}

}  // namespace raylite::RL_ISA

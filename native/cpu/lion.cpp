// lion: one pass over p, m, g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

void lion(const LionArguments& a, const Team& team) {
  if (a.factor[0] != a.factor[0]) return;  // NaN: no step
  const Floats factor = broadcast(a.factor[0]);
  const Floats lr = broadcast(a.lr[0]);
  const Floats beta1 = broadcast(static_cast<float>(a.beta1));
  const Floats beta2 = broadcast(static_cast<float>(a.beta2));
  const Floats rest1 = broadcast(static_cast<float>(1.0 - a.beta1));
  const Floats rest2 = broadcast(static_cast<float>(1.0 - a.beta2));
  step_elements(team, a.n, a.decay_end, a.weight_decay, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats shrink = broadcast(static_cast<float>(1.0 - static_cast<double>(a.lr[0]) * decay));
    each_vector(end - begin, [&](std::int64_t j, int n) {
      const std::int64_t i = begin + j;
      const Floats g = load_n(a.g + i, n) * factor;
      const Floats m = load_n(a.m + i, n);
      const Floats direction = beta1 * m + rest1 * g;
      // Not a number stays not a number: it is on neither side of 0.
      Floats step = select(direction > 0.0f, lr, direction * 0.0f);
      step = select(direction < 0.0f, -lr, step);
      store_n(a.p + i, load_n(a.p + i, n) * shrink - step, n);
      store_n(a.m + i, beta2 * m + rest2 * g, n);
    });
  });
}

}  // namespace raylite::RL_ISA

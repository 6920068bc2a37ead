// adagrad: one pass over p, s, g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

void adagrad(const AdagradArguments& a, const Team& team) {
  if (a.factor[0] != a.factor[0]) return;  // NaN: no step
  const double rate = static_cast<double>(a.lr[0]) / (1.0 + (static_cast<double>(a.step[0]) - 1.0) * a.lr_decay);
  const Floats lr = broadcast(static_cast<float>(rate));
  const Floats factor = broadcast(a.factor[0]);
  const Floats eps = broadcast(static_cast<float>(a.eps));
  step_elements(team, a.n, a.decay_end, a.weight_decay, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats l2 = broadcast(static_cast<float>(decay));
    each_vector(end - begin, [&](std::int64_t j, int n) {
      const std::int64_t i = begin + j;
      const Floats p = load_n(a.p + i, n);
      const Floats g = fma(l2, p, load_n(a.g + i, n) * factor);
      const Floats s = fma(g, g, load_n(a.s + i, n));
      store_n(a.s + i, s, n);
      store_n(a.p + i, p - lr * g / (square_root(s) + eps), n);
    });
  });
}

}  // namespace raylite::RL_ISA

// sgd: one pass over p, m (if any), g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

template <class F>
static void sgd_of(const SgdArguments<F>& a, const Team& team) {
  if (is_skipped(a, a.n, team)) return;
  const Floats factor = broadcast(a.factor[0]);
  const Floats lr = broadcast(a.lr[0]);
  const Floats momentum = broadcast(static_cast<float>(a.momentum));
  const Floats rest = broadcast(a.step[0] <= 1.0f ? 1.0f : static_cast<float>(1.0 - a.dampening));
  step_elements(a, team, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats l2 = broadcast(static_cast<float>(decay));
    each_step(a, begin, end, [&](std::int64_t i, int n, const Chances& chances) {
      const Floats p = load_n(a.p + i, n);
      Floats g = fma(l2, p, load_n(a.g + i, n) * factor);
      if (a.m != nullptr) {
        const Floats m = momentum * load_n(a.m + i, n) + rest * g;
        store_stepped<Chance::kState>(a.m + i, m, n, chances);
        g = a.nesterov ? fma(momentum, m, g) : m;
      }
      store_parameter(a, i, p - lr * g, n, chances);
    });
  });
}

#define RL_SGD(form, ...) RL_STEP_OF(sgd, SgdArguments, __VA_ARGS__)
RAYLITE_STEP_FORMS(RL_SGD)

}  // namespace raylite::RL_ISA

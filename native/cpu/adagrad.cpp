// adagrad: one pass over p, s, g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

template <class F>
static void adagrad_of(const AdagradArguments<F>& a, const Team& team) {
  if (is_skipped(a, a.n, team)) return;
  const double rate = static_cast<double>(a.lr[0]) / (1.0 + (static_cast<double>(a.step[0]) - 1.0) * a.lr_decay);
  const Floats lr = broadcast(static_cast<float>(rate));
  const Floats factor = broadcast(a.factor[0]);
  const Floats eps = broadcast(static_cast<float>(a.eps));
  step_elements(a, team, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats l2 = broadcast(static_cast<float>(decay));
    each_step(a, begin, end, [&](std::int64_t i, int n, const Chances& chances) {
      const Floats p = load_n(a.p + i, n);
      const Floats g = fma(l2, p, load_n(a.g + i, n) * factor);
      const Floats s = fma(g, g, load_n(a.s + i, n));
      store_stepped<Chance::kState>(a.s + i, s, n, chances);
      store_parameter(a, i, p - lr * g / (square_root(s) + eps), n, chances);
    });
  });
}

#define RL_ADAGRAD(form, ...) RL_STEP_OF(adagrad, AdagradArguments, __VA_ARGS__)
RAYLITE_STEP_FORMS(RL_ADAGRAD)

}  // namespace raylite::RL_ISA

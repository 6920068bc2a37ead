// lion: one pass over p, m, g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

template <class F>
static void lion_of(const LionArguments<F>& a, const Team& team) {
  if (is_skipped(a, a.n, team)) return;
  const Floats factor = broadcast(a.factor[0]);
  const Floats lr = broadcast(a.lr[0]);
  const double first = a.beta1_of_step == nullptr ? a.beta1 : static_cast<double>(a.beta1_of_step[0]);
  const Floats beta1 = broadcast(static_cast<float>(first));
  const Floats beta2 = broadcast(static_cast<float>(a.beta2));
  const Floats rest1 = broadcast(static_cast<float>(1.0 - first));
  const Floats rest2 = broadcast(static_cast<float>(1.0 - a.beta2));
  step_elements(a, team, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats shrink = broadcast(static_cast<float>(1.0 - static_cast<double>(a.lr[0]) * decay));
    each_step(a, begin, end, [&](std::int64_t i, int n, const Chances& chances) {
      const Floats g = load_n(a.g + i, n) * factor;
      const Floats m = load_n(a.m + i, n);
      const Floats direction = beta1 * m + rest1 * g;
      // Not a number stays not a number: it is on neither side of 0.
      Floats step = select(direction > 0.0f, lr, direction * 0.0f);
      step = select(direction < 0.0f, -lr, step);
      store_parameter(a, i, load_n(a.p + i, n) * shrink - step, n, chances);
      store_stepped<Chance::kState>(a.m + i, beta2 * m + rest2 * g, n, chances);
    });
  });
}

#define RL_LION(form, ...) RL_STEP_OF(lion, LionArguments, __VA_ARGS__)
RAYLITE_STEP_FORMS(RL_LION)

}  // namespace raylite::RL_ISA

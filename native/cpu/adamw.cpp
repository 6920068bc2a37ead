// adamw: one pass over p, m, v, g.
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

namespace {
double power(double base, double exponent) { return __builtin_pow(base, exponent); }
}  // namespace

template <class F>
static void adamw_of(const AdamWArguments<F>& a, const Team& team) {
  if (is_skipped(a, a.n, team)) return;
  const double step = static_cast<double>(a.step[0]);
  const double lr = static_cast<double>(a.lr[0]);
  const double first = a.beta1_of_step == nullptr ? a.beta1 : static_cast<double>(a.beta1_of_step[0]);
  const double correction1 = a.bias_correction ? 1.0 - power(first, step) : 1.0;
  const double correction2 = a.bias_correction ? 1.0 - power(a.beta2, step) : 1.0;
  const Floats factor = broadcast(a.factor[0]);
  const Floats beta1 = broadcast(static_cast<float>(first));
  const Floats beta2 = broadcast(static_cast<float>(a.beta2));
  const Floats rest1 = broadcast(static_cast<float>(1.0 - first));
  const Floats rest2 = broadcast(static_cast<float>(1.0 - a.beta2));
  const Floats step_size = broadcast(static_cast<float>(lr / correction1));
  const Floats root_scale = broadcast(static_cast<float>(1.0 / __builtin_sqrt(correction2)));
  const Floats eps = broadcast(static_cast<float>(a.eps));

  step_elements(a, team, [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats shrink = broadcast(static_cast<float>(1.0 - lr * decay));
    const Floats l2 = broadcast(static_cast<float>(decay));
    each_step(a, begin, end, [&](std::int64_t i, int n, const Chances& chances) {
      Floats p = load_n(a.p + i, n);
      Floats g = load_n(a.g + i, n) * factor;
      if (a.adamw_mode) {
        p *= shrink;
      } else {
        g = fma(l2, p, g);
      }
      const Floats m = beta1 * load_n(a.m + i, n) + rest1 * g;
      const Floats v = beta2 * load_n(a.v + i, n) + rest2 * (g * g);
      store_stepped<Chance::kState>(a.m + i, m, n, chances);
      store_stepped<Chance::kSecondState>(a.v + i, v, n, chances);
      p -= step_size * m / (square_root(v) * root_scale + eps);
      store_parameter(a, i, p, n, chances);
    });
  });
}

#define RL_ADAMW(form, ...) RL_STEP_OF(adamw, AdamWArguments, __VA_ARGS__)
RAYLITE_STEP_FORMS(RL_ADAMW)

}  // namespace raylite::RL_ISA

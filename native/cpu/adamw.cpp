// adamw: one pass over p, m, v, g.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {
double power(double base, double exponent) { return __builtin_pow(base, exponent); }
}  // namespace

template <class T>
static void adamw_of(const AdamWArguments<T>& a, const Team& team) {
  if (a.factor[0] != a.factor[0]) return;  // NaN: no step
  const double step = static_cast<double>(a.step[0]);
  const double lr = static_cast<double>(a.lr[0]);
  const double correction1 = a.bias_correction ? 1.0 - power(a.beta1, step) : 1.0;
  const double correction2 = a.bias_correction ? 1.0 - power(a.beta2, step) : 1.0;
  const Floats factor = broadcast(a.factor[0]);
  const Floats beta1 = broadcast(static_cast<float>(a.beta1));
  const Floats beta2 = broadcast(static_cast<float>(a.beta2));
  const Floats rest1 = broadcast(static_cast<float>(1.0 - a.beta1));
  const Floats rest2 = broadcast(static_cast<float>(1.0 - a.beta2));
  const Floats step_size = broadcast(static_cast<float>(lr / correction1));
  const Floats root_scale = broadcast(static_cast<float>(1.0 / __builtin_sqrt(correction2)));
  const Floats eps = broadcast(static_cast<float>(a.eps));

  const auto update = [&](std::int64_t begin, std::int64_t end, double decay) {
    const Floats shrink = broadcast(static_cast<float>(1.0 - lr * decay));
    const Floats l2 = broadcast(static_cast<float>(decay));
    each_vector(end - begin, [&](std::int64_t j, int n) {
      const std::int64_t i = begin + j;
      Floats p = load_n(a.p + i, n);
      Floats g = load_n(a.g + i, n) * factor;
      if (a.adamw_mode) {
        p *= shrink;
      } else {
        g = fma(l2, p, g);
      }
      const Floats m = beta1 * load_n(a.m + i, n) + rest1 * g;
      const Floats v = beta2 * load_n(a.v + i, n) + rest2 * (g * g);
      store_n(a.m + i, m, n);
      store_n(a.v + i, v, n);
      p -= step_size * m / (square_root(v) * root_scale + eps);
      store_n(a.p + i, p, n);
      if constexpr (!std::is_same_v<T, float>) store_n(a.rounded + i, p, n);
    });
  };
  const Range all = share_elements(team, a.n);
  const std::int64_t split = max_of(all.begin, min_of(all.end, a.decay_end));
  update(all.begin, split, a.weight_decay);
  update(split, all.end, 0.0);
}

RL_DEFINE(adamw, AdamWArguments)

}  // namespace raylite::RL_ISA

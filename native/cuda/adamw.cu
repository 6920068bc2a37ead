// adamw: one pass over p, m, v, g.
#include "cuda/kernels.h"
#include "cuda/step.cuh"

namespace raylite::cuda {

namespace {

template <class F>
struct AdamW {
  static constexpr int kStates = 2;
  bool adamw_mode;
  float factor, beta1, beta2, rest1, rest2, step_size, root_scale, eps, shrink, l2;
  AdamW() = default;
  __device__ explicit AdamW(const AdamWArguments<F>& a) {
    const double lr = static_cast<double>(a.lr[0]), step = static_cast<double>(a.step[0]);
    const double first = a.beta1_of_step == nullptr ? a.beta1 : static_cast<double>(a.beta1_of_step[0]);
    const double correction1 = a.bias_correction ? 1.0 - pow(first, step) : 1.0;
    const double correction2 = a.bias_correction ? 1.0 - pow(a.beta2, step) : 1.0;
    adamw_mode = a.adamw_mode;
    factor = a.factor[0];
    beta1 = static_cast<float>(first), beta2 = static_cast<float>(a.beta2);
    rest1 = static_cast<float>(1.0 - first), rest2 = static_cast<float>(1.0 - a.beta2);
    step_size = static_cast<float>(lr / correction1);
    root_scale = static_cast<float>(1.0 / sqrt(correction2));
    eps = static_cast<float>(a.eps);
    shrink = static_cast<float>(1.0 - lr * a.weight_decay);
    l2 = static_cast<float>(a.weight_decay);
  }
  __host__ __device__ static typename F::S* state(const AdamWArguments<F>& a, int k) { return k == 0 ? a.m : a.v; }
  __device__ void step(float& p, float gradient, float* states, bool decays) const {
    float g = gradient * factor;
    if (decays && adamw_mode) p *= shrink;
    if (decays && !adamw_mode) g = fmaf(l2, p, g);
    states[0] = beta1 * states[0] + rest1 * g;
    states[1] = beta2 * states[1] + rest2 * (g * g);
    p -= step_size * states[0] / (sqrtf(states[1]) * root_scale + eps);
  }
};

}  // namespace

template <class F>
Kernel<AdamWArguments<F>> adamw() {
  return step_kernel<F, AdamW<F>, AdamWArguments<F>>();
}
RL_FOR_FORMS(adamw, AdamWArguments)

}  // namespace raylite::cuda

// lion: one pass over p, m, g.
#include "cuda/kernels.h"
#include "cuda/step.cuh"

namespace raylite::cuda {

namespace {

template <class F>
struct Lion {
  static constexpr int kStates = 1;
  float factor, lr, beta1, beta2, rest1, rest2, shrink;
  Lion() = default;
  __device__ explicit Lion(const LionArguments<F>& a) {
    const double first = a.beta1_of_step == nullptr ? a.beta1 : static_cast<double>(a.beta1_of_step[0]);
    factor = a.factor[0], lr = a.lr[0];
    beta1 = static_cast<float>(first), beta2 = static_cast<float>(a.beta2);
    rest1 = static_cast<float>(1.0 - first), rest2 = static_cast<float>(1.0 - a.beta2);
    shrink = static_cast<float>(1.0 - static_cast<double>(lr) * a.weight_decay);
  }
  __host__ __device__ static typename F::S* state(const LionArguments<F>& a, int ) { return a.m; }
  __device__ void step(float& p, float gradient, float* states, bool decays) const {
    const float g = gradient * factor;
    const float direction = beta1 * states[0] + rest1 * g;
    // Not a number stays not a number: it is on neither side of 0.
    const float step = direction > 0.0f ? lr : direction < 0.0f ? -lr : direction * 0.0f;
    p = p * (decays ? shrink : 1.0f) - step;
    states[0] = beta2 * states[0] + rest2 * g;
  }
};

}  // namespace

template <class F>
Kernel<LionArguments<F>> lion() {
  return step_kernel<F, Lion<F>, LionArguments<F>>();
}
RL_FOR_FORMS(lion, LionArguments)

}  // namespace raylite::cuda

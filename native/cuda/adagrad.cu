// adagrad: one pass over p, s, g.
#include "cuda/kernels.h"
#include "cuda/step.cuh"

namespace raylite::cuda {

namespace {

template <class F>
struct Adagrad {
  static constexpr int kStates = 1;
  float factor, lr, eps, l2;
  Adagrad() = default;
  __device__ explicit Adagrad(const AdagradArguments<F>& a) {
    factor = a.factor[0];
    lr = static_cast<float>(static_cast<double>(a.lr[0]) / (1.0 + (static_cast<double>(a.step[0]) - 1.0) * a.lr_decay));
    eps = static_cast<float>(a.eps);
    l2 = static_cast<float>(a.weight_decay);
  }
  __host__ __device__ static typename F::S* state(const AdagradArguments<F>& a, int ) { return a.s; }
  __device__ void step(float& p, float gradient, float* states, bool decays) const {
    const float g = fmaf(decays ? l2 : 0.0f, p, gradient * factor);
    states[0] = fmaf(g, g, states[0]);
    p -= lr * g / (sqrtf(states[0]) + eps);
  }
};

}  // namespace

template <class F>
Kernel<AdagradArguments<F>> adagrad() {
  return step_kernel<F, Adagrad<F>, AdagradArguments<F>>();
}
RL_FOR_FORMS(adagrad, AdagradArguments)

}  // namespace raylite::cuda

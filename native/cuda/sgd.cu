// sgd: one pass over p, m (if any), g.
#include "cuda/kernels.h"
#include "cuda/step.cuh"

namespace raylite::cuda {

namespace {

template <class F>
struct Sgd {
  static constexpr int kStates = 1;
  bool has_momentum, nesterov;
  float factor, lr, momentum, rest, l2;
  Sgd() = default;
  __device__ explicit Sgd(const SgdArguments<F>& a) {
    has_momentum = a.m != nullptr, nesterov = a.nesterov;
    factor = a.factor[0], lr = a.lr[0];
    momentum = static_cast<float>(a.momentum);
    rest = a.step[0] <= 1.0f ? 1.0f : static_cast<float>(1.0 - a.dampening);
    l2 = static_cast<float>(a.weight_decay);
  }
  __host__ __device__ static typename F::S* state(const SgdArguments<F>& a, int ) { return a.m; }
  __device__ void step(float& p, float gradient, float* states, bool decays) const {
    float g = fmaf(decays ? l2 : 0.0f, p, gradient * factor);
    if (has_momentum) {
      states[0] = momentum * states[0] + rest * g;
      g = nesterov ? fmaf(momentum, states[0], g) : states[0];
    }
    p -= lr * g;
  }
};

}  // namespace

template <class F>
Kernel<SgdArguments<F>> sgd() {
  return step_kernel<F, Sgd<F>, SgdArguments<F>>();
}
RL_FOR_FORMS(sgd, SgdArguments)

}  // namespace raylite::cuda

// The contract of the optimiser step.
#include "core/ops/adamw.h"

#include "core/bind_step.h"

namespace raylite {

template <class F>
static Bound bind_adamw(Binder& in, const StepKernels<F>& kernels) {
  using P = typename F::P;
  using S = typename F::S;
  AdamWArguments<F> a{};
  Dim n("n"), one("1", 1);
  in.flat_input<P>("p", n);
  in.flat_input<S>("m", n);
  in.flat_input<S>("v", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.step = in.input("step", {&one});
  bind_momentum(in, a);
  bind_random(in, a);
  a.p = in.flat_output<P>("p", n);
  a.m = in.flat_output<S>("m", n);
  a.v = in.flat_output<S>("v", n);
  bind_rounded(in, a, n);
  in.must_share("p", "p");
  in.must_share("m", "m");
  in.must_share("v", "v");
  a.beta1 = in.number("beta1");
  a.beta2 = in.number("beta2");
  a.eps = in.number("eps");
  a.weight_decay = in.number("weightDecay");
  a.n = n.value;
  a.decay_end = in.integer("decayEnd", 0, a.n);
  a.adamw_mode = in.flag("adamWMode");
  a.bias_correction = in.flag("biasCorrection");
  bind_chance(in, a);
  in.finish();
  return bound(in, a, kernels.adamw);
}

RAYLITE_BIND_STEP(adamw)

}  // namespace raylite

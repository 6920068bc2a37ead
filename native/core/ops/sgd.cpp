// The contract of stochastic gradient descent.
#include "core/ops/sgd.h"

#include "core/bind_step.h"

namespace raylite {

template <class F>
static Bound bind_sgd(Binder& in, const StepKernels<F>& kernels) {
  using P = typename F::P;
  using S = typename F::S;
  SgdArguments<F> a{};
  Dim n("n"), one("1", 1);
  a.momentum = in.number("momentum");
  a.dampening = in.number("dampening");
  a.nesterov = in.flag("nesterov");
  const bool has_momentum = a.momentum != 0.0;
  in.flat_input<P>("p", n);
  if (has_momentum) in.flat_input<S>("m", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.step = in.input("step", {&one});
  bind_random(in, a);
  a.p = in.flat_output<P>("p", n);
  in.must_share("p", "p");
  if (has_momentum) {
    a.m = in.flat_output<S>("m", n);
    in.must_share("m", "m");
  }
  bind_rounded(in, a, n);
  a.n = n.value;
  a.weight_decay = in.number("weightDecay");
  a.decay_end = in.integer("decayEnd", 0, a.n);
  bind_chance(in, a);
  in.finish();
  return bound(in, a, kernels.sgd);
}

RAYLITE_BIND_STEP(sgd)

}  // namespace raylite

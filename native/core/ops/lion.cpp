// The contract of Lion.
#include "core/ops/lion.h"

#include "core/bind_step.h"

namespace raylite {

template <class F>
static Bound bind_lion(Binder& in, const StepKernels<F>& kernels) {
  using P = typename F::P;
  using S = typename F::S;
  LionArguments<F> a{};
  Dim n("n"), one("1", 1);
  in.flat_input<P>("p", n);
  in.flat_input<S>("m", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  bind_momentum(in, a);
  bind_random(in, a);
  a.p = in.flat_output<P>("p", n);
  a.m = in.flat_output<S>("m", n);
  bind_rounded(in, a, n);
  in.must_share("p", "p");
  in.must_share("m", "m");
  a.beta1 = in.number("beta1");
  a.beta2 = in.number("beta2");
  a.n = n.value;
  a.weight_decay = in.number("weightDecay");
  a.decay_end = in.integer("decayEnd", 0, a.n);
  bind_chance(in, a);
  in.finish();
  return bound(in, a, kernels.lion);
}

RAYLITE_BIND_STEP(lion)

}  // namespace raylite

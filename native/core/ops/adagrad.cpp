// The contract of Adagrad.
#include "core/ops/adagrad.h"

#include "core/bind_step.h"

namespace raylite {

template <class F>
static Bound bind_adagrad(Binder& in, const StepKernels<F>& kernels) {
  using P = typename F::P;
  using S = typename F::S;
  AdagradArguments<F> a{};
  Dim n("n"), one("1", 1);
  in.flat_input<P>("p", n);
  in.flat_input<S>("s", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.step = in.input("step", {&one});
  bind_random(in, a);
  a.p = in.flat_output<P>("p", n);
  a.s = in.flat_output<S>("s", n);
  bind_rounded(in, a, n);
  in.must_share("p", "p");
  in.must_share("s", "s");
  a.eps = in.number("eps");
  a.lr_decay = in.number("lrDecay");
  a.n = n.value;
  a.weight_decay = in.number("weightDecay");
  a.decay_end = in.integer("decayEnd", 0, a.n);
  bind_chance(in, a);
  in.finish();
  return bound(in, a, kernels.adagrad);
}

RAYLITE_BIND_STEP(adagrad)

}  // namespace raylite

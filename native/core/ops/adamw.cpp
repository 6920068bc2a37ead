// The contract of the optimiser step.
#include "core/ops/adamw.h"

#include "core/bind.h"

namespace raylite {

template <class T>
static Bound bind_adamw(Binder& in, const KernelsOf<T>& kernels) {
  AdamWArguments<T> a{};
  Dim n("n"), one("1", 1);
  in.flat_input("p", n);
  in.flat_input("m", n);
  in.flat_input("v", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.step = in.input("step", {&one});
  a.p = in.flat_output("p", n);
  a.m = in.flat_output("m", n);
  a.v = in.flat_output("v", n);
  a.rounded = bind_rounded<T>(in, n);
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
  in.finish();
  return bound(in, a, kernels.adamw);
}

RAYLITE_BIND_ROUNDED(adamw)

}  // namespace raylite

// The contract of Lion.
#include "core/ops/lion.h"

#include "core/bind.h"

namespace raylite {

Bound bind_lion(Binder& in, const Kernels& kernels) {
  LionArguments a{};
  Dim n("n"), one("1", 1);
  in.flat_input("p", n);
  in.flat_input("m", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.p = in.flat_output("p", n);
  a.m = in.flat_output("m", n);
  in.must_share("p", "p");
  in.must_share("m", "m");
  a.beta1 = in.number("beta1");
  a.beta2 = in.number("beta2");
  a.n = n.value;
  a.weight_decay = in.number("weightDecay");
  a.decay_end = in.integer("decayEnd", 0, a.n);
  in.finish();
  return bound(in, a, kernels.lion);
}

}  // namespace raylite

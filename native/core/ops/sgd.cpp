// The contract of stochastic gradient descent.
#include "core/ops/sgd.h"

#include "core/bind.h"

namespace raylite {

Bound bind_sgd(Binder& in, const Kernels& kernels) {
  SgdArguments a{};
  Dim n("n"), one("1", 1);
  a.momentum = in.number("momentum");
  a.dampening = in.number("dampening");
  a.nesterov = in.flag("nesterov");
  const bool has_momentum = a.momentum != 0.0;
  in.flat_input("p", n);
  if (has_momentum) in.flat_input("m", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.step = in.input("step", {&one});
  a.p = in.flat_output("p", n);
  in.must_share("p", "p");
  if (has_momentum) {
    a.m = in.flat_output("m", n);
    in.must_share("m", "m");
  }
  a.n = n.value;
  a.weight_decay = in.number("weightDecay");
  a.decay_end = in.integer("decayEnd", 0, a.n);
  in.finish();
  return bound(in, a, kernels.sgd);
}

}  // namespace raylite

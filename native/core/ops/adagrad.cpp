// The contract of Adagrad.
#include "core/ops/adagrad.h"

#include "core/bind.h"

namespace raylite {

Bound bind_adagrad(Binder& in, const Kernels& kernels) {
  AdagradArguments a{};
  Dim n("n"), one("1", 1);
  in.flat_input("p", n);
  in.flat_input("s", n);
  a.g = in.flat_input("g", n);
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.step = in.input("step", {&one});
  a.p = in.flat_output("p", n);
  a.s = in.flat_output("s", n);
  in.must_share("p", "p");
  in.must_share("s", "s");
  a.eps = in.number("eps");
  a.lr_decay = in.number("lrDecay");
  a.n = n.value;
  a.weight_decay = in.number("weightDecay");
  a.decay_end = in.integer("decayEnd", 0, a.n);
  in.finish();
  return bound(in, a, kernels.adagrad);
}

}  // namespace raylite

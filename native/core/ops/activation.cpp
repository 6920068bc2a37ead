// The contracts of the activations.
#include "core/ops/activation.h"

#include "core/bind.h"

namespace raylite {

namespace {
Activation kind_of(Binder& in, std::int64_t low) { return static_cast<Activation>(in.integer("kind", low, kActivationLast)); }
}  // namespace

Bound bind_activation(Binder& in, const Kernels& kernels) {
  ActivationArguments a{};
  Dim n("n");
  a.x = in.flat_input("x", n);
  a.y = in.flat_output("y", n);
  a.kind = kind_of(in, 0);
  in.may_share("y", "x");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.activation);
}

Bound bind_activation_backward(Binder& in, const Kernels& kernels) {
  ActivationBackwardArguments a{};
  Dim n("n");
  a.dy = in.flat_input("dy", n);
  a.x = in.flat_input("x", n);
  a.dx = in.flat_output("dx", n);
  a.kind = kind_of(in, 0);
  in.may_share("dx", "dy");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.activation_backward);
}

Bound bind_gated_activation(Binder& in, const Kernels& kernels) {
  GatedActivationArguments a{};
  Dim n("n");
  a.gate = in.flat_input("gate", n);
  a.up = in.flat_input("up", n);
  a.y = in.flat_output("y", n);
  a.kind = kind_of(in, 0);
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.gated_activation);
}

Bound bind_gated_activation_backward(Binder& in, const Kernels& kernels) {
  GatedActivationBackwardArguments a{};
  Dim n("n");
  a.dy = in.flat_input("dy", n);
  a.gate = in.flat_input("gate", n);
  a.up = in.flat_input("up", n);
  a.dgate = in.flat_output("dgate", n);
  a.dup = in.flat_output("dup", n);
  a.kind = kind_of(in, 0);
  in.may_share("dgate", "gate");
  in.may_share("dgate", "dy");
  in.may_share("dup", "up");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.gated_activation_backward);
}

}  // namespace raylite

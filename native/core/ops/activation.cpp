// The contracts of the activations.
#include "core/ops/activation.h"

#include "core/bind.h"

namespace raylite {

namespace {
Activation kind_of(Binder& in, std::int64_t low) { return static_cast<Activation>(in.integer("kind", low, kActivationLast)); }
}  // namespace

template <class T>
static Bound bind_activation(Binder& in, const KernelsOf<T>& kernels) {
  ActivationArguments<T> a{};
  Dim n("n");
  a.x = in.flat_input<T>("x", n);
  a.y = in.flat_output<T>("y", n);
  a.kind = kind_of(in, 0);
  in.may_share("y", "x");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.activation);
}

template <class T>
static Bound bind_activation_backward(Binder& in, const KernelsOf<T>& kernels) {
  ActivationBackwardArguments<T> a{};
  Dim n("n");
  a.dy = in.flat_input<T>("dy", n);
  a.x = in.flat_input<T>("x", n);
  a.dx = in.flat_output<T>("dx", n);
  a.kind = kind_of(in, 0);
  in.may_share("dx", "dy");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.activation_backward);
}

template <class T>
static Bound bind_gated_activation(Binder& in, const KernelsOf<T>& kernels) {
  GatedActivationArguments<T> a{};
  Dim n("n");
  a.gate = in.flat_input<T>("gate", n);
  a.up = in.flat_input<T>("up", n);
  a.y = in.flat_output<T>("y", n);
  a.kind = kind_of(in, 0);
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.gated_activation);
}

template <class T>
static Bound bind_gated_activation_backward(Binder& in, const KernelsOf<T>& kernels) {
  GatedActivationBackwardArguments<T> a{};
  Dim n("n");
  a.dy = in.flat_input<T>("dy", n);
  a.gate = in.flat_input<T>("gate", n);
  a.up = in.flat_input<T>("up", n);
  a.dgate = in.flat_output<T>("dgate", n);
  a.dup = in.flat_output<T>("dup", n);
  a.kind = kind_of(in, 0);
  in.may_share("dgate", "gate");
  in.may_share("dgate", "dy");
  in.may_share("dup", "up");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.gated_activation_backward);
}

RAYLITE_BIND_STORED(activation)
RAYLITE_BIND_STORED(activation_backward)
RAYLITE_BIND_STORED(gated_activation)
RAYLITE_BIND_STORED(gated_activation_backward)

}  // namespace raylite

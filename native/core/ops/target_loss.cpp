// The contracts of the losses against given numbers.
#include "core/ops/target_loss.h"

#include "core/bind.h"

namespace raylite {

namespace {
TargetLoss take_kind(Binder& in) { return static_cast<TargetLoss>(in.integer("kind", 0, 2)); }
}  // namespace

template <class T>
static Bound bind_target_loss(Binder& in, const KernelsOf<T>& kernels) {
  TargetLossArguments<T> a{};
  Dim n("N"), l("L"), one("1", 1);
  a.kind = take_kind(in);
  a.x = in.input<T>("x", {&n, &l});
  a.targets = in.input("targets", {&n, &l});
  a.scale = in.input("scale", {&one});
  a.loss = in.output("loss", {&one});
  a.row_losses = in.output("rowLosses", {&n});
  in.finish();
  a.n = n.value, a.l = l.value;
  return bound(in, a, kernels.target_loss);
}

template <class T>
static Bound bind_target_loss_backward(Binder& in, const KernelsOf<T>& kernels) {
  TargetLossBackwardArguments<T> a{};
  Dim n("N"), l("L"), one("1", 1);
  a.kind = take_kind(in);
  a.x = in.input<T>("x", {&n, &l});
  a.targets = in.input("targets", {&n, &l});
  a.scale = in.input("scale", {&one});
  a.dx = in.output<T>("dx", {&n, &l});
  in.may_share("dx", "x");
  in.finish();
  a.n = n.value, a.l = l.value;
  return bound(in, a, kernels.target_loss_backward);
}

RAYLITE_BIND_STORED(target_loss)
RAYLITE_BIND_STORED(target_loss_backward)

}  // namespace raylite

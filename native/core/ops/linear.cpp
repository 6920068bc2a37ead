// The contracts of the dense layer and its gradients.
#include "core/ops/linear.h"

#include "core/bind.h"

namespace raylite {

Bound bind_linear(Binder& in, const Kernels& kernels) {
  LinearArguments a{};
  Dim n("N"), i("I"), o("O");
  a.transposed = in.flag("transposed");
  a.activation = static_cast<Activation>(in.integer("activation", 0, kActivationLast));
  a.x = in.input("x", {&n, &i});
  a.w = a.transposed ? in.input("w", {&i, &o}) : in.input("w", {&o, &i});
  if (in.inputs_left() > 0) a.bias = in.input("bias", {&o});
  a.y = in.output("y", {&n, &o});
  if (in.outputs_left() > 0) a.pre = in.output("pre", {&n, &o});
  in.finish();
  a.n = n.value, a.i = i.value, a.o = o.value;
  return bound(in, a, kernels.linear);
}

Bound bind_linear_backward_input(Binder& in, const Kernels& kernels) {
  LinearBackwardInputArguments a{};
  Dim n("N"), i("I"), o("O");
  a.transposed = in.flag("transposed");
  a.dy = in.input("dy", {&n, &o});
  a.w = a.transposed ? in.input("w", {&i, &o}) : in.input("w", {&o, &i});
  if (in.inputs_left() > 0) a.addend = in.input("addend", {&n, &i});
  a.dx = in.output("dx", {&n, &i});
  in.may_share("dx", "addend");
  in.finish();
  a.n = n.value, a.i = i.value, a.o = o.value;
  return bound(in, a, kernels.linear_backward_input);
}

Bound bind_linear_backward_weight(Binder& in, const Kernels& kernels) {
  LinearBackwardWeightArguments a{};
  Dim n("N"), i("I"), o("O"), one("1", 1);
  a.transposed = in.flag("transposed");
  a.accumulate = in.flag("accumulate");
  a.x = in.input("x", {&n, &i});
  a.dy = in.input("dy", {&n, &o});
  a.beta = in.input("beta", {&one});
  a.dw = a.transposed ? in.output("dw", {&i, &o}) : in.output("dw", {&o, &i});
  if (in.outputs_left() > 0) a.dbias = in.output("dbias", {&o});
  in.finish();
  a.n = n.value, a.i = i.value, a.o = o.value;
  return bound(in, a, kernels.linear_backward_weight);
}

}  // namespace raylite

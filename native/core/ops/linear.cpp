// The contracts of the dense layer and its gradients.
#include "core/ops/linear.h"

#include "core/bind.h"

namespace raylite {

template <class T>
static Bound bind_linear(Binder& in, const KernelsOf<T>& kernels) {
  LinearArguments<T> a{};
  Dim n("N"), i("I"), o("O");
  a.transposed = in.flag("transposed");
  a.activation = static_cast<Activation>(in.integer("activation", 0, kActivationLast));
  a.x = in.input<T>("x", {&n, &i});
  a.w = a.transposed ? in.input<T>("w", {&i, &o}) : in.input<T>("w", {&o, &i});
  if (in.inputs_left() > 0) a.bias = in.input<T>("bias", {&o});
  if (in.output_dtype() == DType::kF32 && kDTypeOf<T> != DType::kF32) {
    a.wide = in.output("y", {&n, &o});
  } else {
    a.y = in.output<T>("y", {&n, &o});
  }
  if (a.wide == nullptr && in.outputs_left() > 0) a.pre = in.output<T>("pre", {&n, &o});
  in.finish();
  a.n = n.value, a.i = i.value, a.o = o.value;
  return bound(in, a, kernels.linear);
}

template <class T>
static Bound bind_linear_backward_input(Binder& in, const KernelsOf<T>& kernels) {
  LinearBackwardInputArguments<T> a{};
  Dim n("N"), i("I"), o("O");
  a.transposed = in.flag("transposed");
  a.dy = in.input<T>("dy", {&n, &o});
  a.w = a.transposed ? in.input<T>("w", {&i, &o}) : in.input<T>("w", {&o, &i});
  if (in.inputs_left() > 0) a.addend = in.input<T>("addend", {&n, &i});
  a.dx = in.output<T>("dx", {&n, &i});
  in.may_share("dx", "addend");
  in.finish();
  a.n = n.value, a.i = i.value, a.o = o.value;
  return bound(in, a, kernels.linear_backward_input);
}

template <class T>
static Bound bind_linear_backward_weight(Binder& in, const KernelsOf<T>& kernels) {
  LinearBackwardWeightArguments<T> a{};
  Dim n("N"), i("I"), o("O"), one("1", 1);
  a.transposed = in.flag("transposed");
  a.accumulate = in.flag("accumulate");
  a.x = in.input<T>("x", {&n, &i});
  a.dy = in.input<T>("dy", {&n, &o});
  a.beta = in.input("beta", {&one});
  a.dw = a.transposed ? in.output("dw", {&i, &o}) : in.output("dw", {&o, &i});
  if (in.outputs_left() > 0) a.dbias = in.output("dbias", {&o});
  in.finish();
  a.n = n.value, a.i = i.value, a.o = o.value;
  return bound(in, a, kernels.linear_backward_weight);
}

RAYLITE_BIND_STORED(linear)
RAYLITE_BIND_STORED(linear_backward_input)
RAYLITE_BIND_STORED(linear_backward_weight)

}  // namespace raylite

// The contracts of softmax and its gradient.
#include "core/ops/softmax.h"

#include "core/bind.h"

namespace raylite {

template <class T>
static Bound bind_softmax(Binder& in, const KernelsOf<T>& kernels) {
  SoftmaxArguments<T> a{};
  Dim n("N"), d("D");
  a.x = in.input<T>("x", {&n, &d});
  a.y = in.output<T>("y", {&n, &d});
  in.may_share("y", "x");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.softmax);
}

template <class T>
static Bound bind_softmax_backward(Binder& in, const KernelsOf<T>& kernels) {
  SoftmaxBackwardArguments<T> a{};
  Dim n("N"), d("D");
  a.dy = in.input<T>("dy", {&n, &d});
  a.y = in.input<T>("y", {&n, &d});
  a.dx = in.output<T>("dx", {&n, &d});
  in.may_share("dx", "dy");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.softmax_backward);
}

RAYLITE_BIND_STORED(softmax)
RAYLITE_BIND_STORED(softmax_backward)

}  // namespace raylite

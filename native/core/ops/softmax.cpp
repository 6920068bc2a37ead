// The contracts of softmax and its gradient.
#include "core/ops/softmax.h"

#include "core/bind.h"

namespace raylite {

Bound bind_softmax(Binder& in, const Kernels& kernels) {
  SoftmaxArguments a{};
  Dim n("N"), d("D");
  a.x = in.input("x", {&n, &d});
  a.y = in.output("y", {&n, &d});
  in.may_share("y", "x");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.softmax);
}

Bound bind_softmax_backward(Binder& in, const Kernels& kernels) {
  SoftmaxBackwardArguments a{};
  Dim n("N"), d("D");
  a.dy = in.input("dy", {&n, &d});
  a.y = in.input("y", {&n, &d});
  a.dx = in.output("dx", {&n, &d});
  in.may_share("dx", "dy");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.softmax_backward);
}

}  // namespace raylite

// The contracts of root-mean-square normalisation.
#include "core/ops/rms_norm.h"

#include "core/bind.h"

namespace raylite {

namespace {
Bound bind_forward(Binder& in, const Kernels& kernels, bool adds) {
  RmsNormArguments a{};
  Dim n("N"), d("D");
  a.x = in.input("x", {&n, &d});
  if (adds) a.r = in.input("r", {&n, &d});
  a.gain = in.input("gain", {&d});
  if (adds) a.sum = in.output("sum", {&n, &d});
  a.y = in.output("y", {&n, &d});
  a.rstd = in.output("rstd", {&n});
  a.eps = static_cast<float>(in.number("eps"));
  in.may_share("sum", "x");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.rms_norm);
}
}  // namespace

Bound bind_rms_norm(Binder& in, const Kernels& kernels) { return bind_forward(in, kernels, false); }
Bound bind_add_rms_norm(Binder& in, const Kernels& kernels) { return bind_forward(in, kernels, true); }

Bound bind_rms_norm_backward(Binder& in, const Kernels& kernels) {
  RmsNormBackwardArguments a{};
  Dim n("N"), d("D"), one("1", 1);
  a.accumulate = in.flag("accumulate");
  const bool has_addend = in.flag("hasAddend");
  a.dy = in.input("dy", {&n, &d});
  a.x = in.input("x", {&n, &d});
  a.gain = in.input("gain", {&d});
  a.rstd = in.input("rstd", {&n});
  if (has_addend) a.addend = in.input("addend", {&n, &d});
  a.beta = in.input("beta", {&one});
  a.dx = in.output("dx", {&n, &d});
  a.dgain = in.output("dgain", {&d});
  in.may_share("dx", "addend");
  in.may_share("dx", "dy");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.rms_norm_backward);
}

}  // namespace raylite

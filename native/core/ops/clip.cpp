// The contracts of sum_squares and clip_factor.
#include "core/ops/clip.h"

#include "core/bind.h"

namespace raylite {

Bound bind_sum_squares(Binder& in, const Kernels& kernels) {
  SumSquaresArguments a{};
  Dim n("n"), one("1", 1);
  a.g = in.flat_input("g", n);
  a.s = in.output("s", {&one});
  a.accumulate = in.flag("accumulate");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.sum_squares);
}

Bound bind_clip_factor(Binder& in, const Kernels& kernels) {
  ClipFactorArguments a{};
  Dim one("1", 1);
  a.s = in.input("s", {&one});
  if (in.inputs_left() > 0) a.loss_scale = in.input("lossScale", {&one});
  a.norm = in.output("norm", {&one});
  a.factor = in.output("factor", {&one});
  a.max_norm = static_cast<float>(in.number("maxNorm"));
  if (a.max_norm < 0) in.fail_shape("attribute \"maxNorm\" is negative");
  in.finish();
  return bound(in, a, kernels.clip_factor);
}

}  // namespace raylite

// The contracts of root-mean-square normalisation.
#include "core/ops/rms_norm.h"

#include "core/bind.h"

namespace raylite {

namespace {
/// Rows of the norm: a row of x of `width` columns holds width / D of them.
std::int64_t norm_rows(const Binder& in, const Dim& n, const Dim& width, const Dim& d) {
  if (width.value % d.value != 0) {
    in.fail_shape("rows of x have " + std::to_string(width.value) + " columns, expected a multiple of the gain's " +
                  std::to_string(d.value));
  }
  return n.value * (width.value / d.value);
}

template <class T>
Bound bind_forward(Binder& in, const KernelsOf<T>& kernels, bool adds) {
  RmsNormArguments<T> a{};
  Dim n("N"), width("width"), d("D"), rows("rows");
  a.x = in.input<T>("x", {&n, &width});
  if (adds) a.r = in.input<T>("r", {&n, &width});
  a.gain = in.input<T>("gain", {&d});
  rows.value = norm_rows(in, n, width, d);
  if (adds) a.sum = in.output<T>("sum", {&n, &width});
  a.y = in.output<T>("y", {&n, &width});
  a.rstd = in.output("rstd", {&rows});
  a.eps = static_cast<float>(in.number("eps"));
  in.may_share("sum", "x");
  in.finish();
  a.n = rows.value, a.d = d.value;
  return bound(in, a, kernels.rms_norm);
}
}  // namespace

template <class T>
static Bound bind_rms_norm(Binder& in, const KernelsOf<T>& kernels) { return bind_forward(in, kernels, false); }
template <class T>
static Bound bind_add_rms_norm(Binder& in, const KernelsOf<T>& kernels) { return bind_forward(in, kernels, true); }

template <class T>
static Bound bind_rms_norm_backward(Binder& in, const KernelsOf<T>& kernels) {
  RmsNormBackwardArguments<T> a{};
  Dim n("N"), width("width"), d("D"), rows("rows"), one("1", 1);
  a.accumulate = in.flag("accumulate");
  const bool has_addend = in.flag("hasAddend");
  a.dy = in.input<T>("dy", {&n, &width});
  a.x = in.input<T>("x", {&n, &width});
  a.gain = in.input<T>("gain", {&d});
  rows.value = norm_rows(in, n, width, d);
  a.rstd = in.input("rstd", {&rows});
  if (has_addend) a.addend = in.input<T>("addend", {&n, &width});
  a.beta = in.input("beta", {&one});
  a.dx = in.output<T>("dx", {&n, &width});
  a.dgain = in.output("dgain", {&d});
  in.may_share("dx", "addend");
  in.may_share("dx", "dy");
  in.finish();
  a.n = rows.value, a.d = d.value;
  return bound(in, a, kernels.rms_norm_backward);
}

RAYLITE_BIND_STORED(rms_norm)
RAYLITE_BIND_STORED(add_rms_norm)
RAYLITE_BIND_STORED(rms_norm_backward)

}  // namespace raylite

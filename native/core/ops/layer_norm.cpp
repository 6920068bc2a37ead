// The contracts of layer normalisation.
#include "core/ops/layer_norm.h"

#include "core/bind.h"

namespace raylite {

namespace {
template <class T>
Bound bind_forward(Binder& in, const KernelsOf<T>& kernels, bool adds) {
  LayerNormArguments<T> a{};
  Dim n("N"), d("D");
  a.x = in.input<T>("x", {&n, &d});
  if (adds) a.r = in.input<T>("r", {&n, &d});
  a.gain = in.input<T>("gain", {&d});
  a.bias = in.input<T>("bias", {&d});
  if (adds) a.sum = in.output<T>("sum", {&n, &d});
  a.y = in.output<T>("y", {&n, &d});
  a.mean = in.output("mean", {&n});
  a.rstd = in.output("rstd", {&n});
  a.eps = static_cast<float>(in.number("eps"));
  in.may_share("sum", "x");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.layer_norm);
}
}  // namespace

template <class T>
static Bound bind_layer_norm(Binder& in, const KernelsOf<T>& kernels) { return bind_forward(in, kernels, false); }
template <class T>
static Bound bind_add_layer_norm(Binder& in, const KernelsOf<T>& kernels) { return bind_forward(in, kernels, true); }

template <class T>
static Bound bind_layer_norm_backward(Binder& in, const KernelsOf<T>& kernels) {
  LayerNormBackwardArguments<T> a{};
  Dim n("N"), d("D"), one("1", 1);
  a.accumulate = in.flag("accumulate");
  const bool has_addend = in.flag("hasAddend");
  a.dy = in.input<T>("dy", {&n, &d});
  a.x = in.input<T>("x", {&n, &d});
  a.gain = in.input<T>("gain", {&d});
  a.mean = in.input("mean", {&n});
  a.rstd = in.input("rstd", {&n});
  if (has_addend) a.addend = in.input<T>("addend", {&n, &d});
  a.beta = in.input("beta", {&one});
  a.dx = in.output<T>("dx", {&n, &d});
  a.dgain = in.output("dgain", {&d});
  a.dbias = in.output("dbias", {&d});
  in.may_share("dx", "addend");
  in.may_share("dx", "dy");
  in.finish();
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.layer_norm_backward);
}

RAYLITE_BIND_STORED(layer_norm)
RAYLITE_BIND_STORED(add_layer_norm)
RAYLITE_BIND_STORED(layer_norm_backward)

}  // namespace raylite

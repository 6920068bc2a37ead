// The contracts of the fused head and loss, without and with gradients.
#include "core/ops/linear_cross_entropy.h"

#include "core/bind.h"

namespace raylite {

namespace {
template <class T>
Bound bind_loss(Binder& in, const KernelsOf<T>& kernels, bool gradients) {
  LinearCrossEntropyArguments<T> a{};
  Dim n("N"), d("D"), v("V"), one("1", 1), chunk("chunk");
  a.transposed = in.flag("transposed");
  chunk.value = in.integer("chunkRows", 1, std::int64_t{1} << 31);
  if (gradients) a.accumulate = in.flag("accumulate");
  a.label_smoothing = static_cast<float>(in.number("labelSmoothing"));
  a.z_loss = static_cast<float>(in.number("zLoss"));
  const bool weighted = in.flag("weighted");
  a.x = in.input<T>("x", {&n, &d});
  a.w = a.transposed ? in.input<T>("w", {&d, &v}) : in.input<T>("w", {&v, &d});
  a.labels = in.ints("labels", {&n});
  a.scale = in.input("scale", {&one});
  if (in.inputs_left() > (gradients ? 1u : 0u) + (weighted ? 1u : 0u)) a.bias = in.input<T>("bias", {&v});
  if (weighted) a.weights = in.input("weights", {&n});
  if (gradients) a.beta = in.input("beta", {&one});
  a.loss = in.output("loss", {&one});
  a.token_losses = in.output("tokenLosses", {&n});
  if (gradients) a.dx = in.output<T>("dx", {&n, &d});
  a.logits = in.output("workspace", {&chunk, &v});
  if (!gradients && in.outputs_left() > 0) a.entropies = in.output("entropies", {&n});
  if (gradients && in.outputs_left() > 0) a.dw = a.transposed ? in.output("dw", {&d, &v}) : in.output("dw", {&v, &d});
  if (gradients && in.outputs_left() > 0) a.dbias = in.output("dbias", {&v});
  in.finish();
  a.n = n.value, a.d = d.value, a.v = v.value, a.chunk = chunk.value;
  return bound(in, a, kernels.linear_cross_entropy);
}
}  // namespace

template <class T>
static Bound bind_linear_cross_entropy(Binder& in, const KernelsOf<T>& kernels) { return bind_loss(in, kernels, false); }
template <class T>
static Bound bind_linear_cross_entropy_grad(Binder& in, const KernelsOf<T>& kernels) { return bind_loss(in, kernels, true); }

RAYLITE_BIND_STORED(linear_cross_entropy)
RAYLITE_BIND_STORED(linear_cross_entropy_grad)

}  // namespace raylite

// The contracts of the head and loss over a parted vocabulary.
#include "core/ops/vocabulary_loss.h"

#include "core/bind.h"

namespace raylite {

namespace {
constexpr std::int64_t kCountMax = std::int64_t{1} << 31;

template <class T>
void take_part(Binder& in, VocabularyLossArguments<T>& a) {
  a.chunk_index = in.integer("chunk", 0, kCountMax);
  a.entries = in.integer("entries", 1, kCountMax);
  a.start = in.integer("start", 0, kCountMax);
  a.columns = in.integer("columns", 0, a.entries);
  a.rank = in.integer("rank", 0, kCountMax);
}

template <class T>
void take_options(Binder& in, LinearCrossEntropyArguments<T>& loss) {
  loss.label_smoothing = static_cast<float>(in.number("labelSmoothing"));
  loss.z_loss = static_cast<float>(in.number("zLoss"));
}
}  // namespace

template <class T>
static Bound bind_vocabulary_logits(Binder& in, const KernelsOf<T>& kernels) {
  VocabularyLossArguments<T> a{};
  LinearCrossEntropyArguments<T>& loss = a.loss;
  Dim n("N"), d("D"), v("V"), chunk("chunk"), ranks("ranks"), stats("stats", kVocabularyStats);
  loss.transposed = in.flag("transposed");
  take_part(in, a);
  a.has_spread = in.flag("spread");
  loss.x = in.input<T>("x", {&n, &d});
  loss.w = loss.transposed ? in.input<T>("w", {&d, &v}) : in.input<T>("w", {&v, &d});
  loss.labels = in.ints("labels", {&n});
  if (in.inputs_left() > 0) loss.bias = in.input<T>("bias", {&v});
  loss.logits = in.output("logits", {&chunk, &v});
  a.stats = in.output("stats", {&ranks, &stats, &chunk});
  in.finish();
  loss.n = n.value, loss.d = d.value, loss.v = v.value, loss.chunk = chunk.value, a.ranks = ranks.value;
  if (a.columns > loss.v) in.fail_shape("attribute \"columns\" is " + std::to_string(a.columns) + " of " + std::to_string(loss.v));
  if (a.rank >= a.ranks) in.fail_shape("attribute \"rank\" is " + std::to_string(a.rank) + " of " + std::to_string(a.ranks));
  return bound(in, a, kernels.vocabulary_logits);
}

Bound bind_vocabulary_loss(Binder& in, const Kernels& kernels) {
  VocabularyLossArguments<float> a{};
  LinearCrossEntropyArguments<float>& loss = a.loss;
  Dim n("N"), one("1", 1), chunk("chunk"), ranks("ranks"), stats("stats", kVocabularyStats);
  a.chunk_index = in.integer("chunk", 0, kCountMax);
  a.entries = in.integer("entries", 1, kCountMax);
  take_options(in, loss);
  a.stats = const_cast<float*>(in.input("stats", {&ranks, &stats, &chunk}));
  loss.labels = in.ints("labels", {&n});
  loss.scale = in.input("scale", {&one});
  if (in.inputs_left() > 0) loss.weights = in.input("weights", {&n});
  loss.loss = in.output("loss", {&one});
  loss.token_losses = in.output("tokenLosses", {&n});
  if (in.outputs_left() > 0) loss.entropies = in.output("entropies", {&n});
  in.finish();
  loss.n = n.value, loss.chunk = chunk.value, a.ranks = ranks.value;
  return bound(in, a, kernels.vocabulary_loss);
}

template <class T>
static Bound bind_vocabulary_loss_grad(Binder& in, const KernelsOf<T>& kernels) {
  VocabularyLossArguments<T> a{};
  LinearCrossEntropyArguments<T>& loss = a.loss;
  Dim n("N"), d("D"), v("V"), one("1", 1), chunk("chunk"), ranks("ranks"), stats("stats", kVocabularyStats);
  loss.transposed = in.flag("transposed");
  take_part(in, a);
  take_options(in, loss);
  const bool weighted = in.flag("weighted");
  loss.accumulate = in.flag("accumulate");
  loss.x = in.input<T>("x", {&n, &d});
  loss.w = loss.transposed ? in.input<T>("w", {&d, &v}) : in.input<T>("w", {&v, &d});
  loss.labels = in.ints("labels", {&n});
  loss.scale = in.input("scale", {&one});
  if (weighted) loss.weights = in.input("weights", {&n});
  in.input("logits", {&chunk, &v});
  a.stats = const_cast<float*>(in.input("stats", {&ranks, &stats, &chunk}));
  loss.beta = in.input("beta", {&one});
  loss.loss = in.output("loss", {&one});
  loss.token_losses = in.output("tokenLosses", {&n});
  loss.dx = in.output<T>("dx", {&n, &d});
  loss.logits = in.output("logits", {&chunk, &v});
  in.must_share("logits", "logits");
  if (in.outputs_left() > 0) loss.dw = loss.transposed ? in.output("dw", {&d, &v}) : in.output("dw", {&v, &d});
  if (in.outputs_left() > 0) loss.dbias = in.output("dbias", {&v});
  in.finish();
  loss.n = n.value, loss.d = d.value, loss.v = v.value, loss.chunk = chunk.value, a.ranks = ranks.value;
  if (a.columns > loss.v) in.fail_shape("attribute \"columns\" is " + std::to_string(a.columns) + " of " + std::to_string(loss.v));
  if (a.rank >= a.ranks) in.fail_shape("attribute \"rank\" is " + std::to_string(a.rank) + " of " + std::to_string(a.ranks));
  return bound(in, a, kernels.vocabulary_loss_grad);
}

RAYLITE_BIND_STORED(vocabulary_logits)
RAYLITE_BIND_STORED(vocabulary_loss_grad)

}  // namespace raylite

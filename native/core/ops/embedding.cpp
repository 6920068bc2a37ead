// The contract of embedding and its gradient.
#include "core/ops/embedding.h"

#include "core/bind.h"

namespace raylite {

namespace {
constexpr std::int64_t kEntriesMax = std::int64_t{1} << 31;
}

Bound bind_embedding(Binder& in, const Kernels& kernels) {
  EmbeddingArguments a{};
  Dim n("N"), v("V"), d("D");
  a.ids = in.ints("ids", {&n});
  a.table = in.input("table", {&v, &d});
  const bool has_addend = in.inputs_left() > 0;
  if (has_addend) a.addend = in.input("addend", {&n, &d});
  a.y = in.output("y", {&n, &d});
  a.offset = in.integer("offset", 0, kEntriesMax);
  in.may_share("y", "addend");
  in.finish();
  a.n = n.value, a.v = v.value, a.d = d.value;
  return bound(in, a, kernels.embedding);
}

Bound bind_embedding_backward(Binder& in, const Kernels& kernels) {
  EmbeddingBackwardArguments a{};
  Dim n("N"), v("V"), d("D"), one("1", 1);
  a.ids = in.ints("ids", {&n});
  a.dy = in.input("dy", {&n, &d});
  a.beta = in.input("beta", {&one});
  a.dtable = in.output("dtable", {&v, &d});
  a.accumulate = in.flag("accumulate");
  a.offset = in.integer("offset", 0, kEntriesMax);
  a.padding = in.integer("paddingId", -1, kEntriesMax);
  in.finish();
  a.n = n.value, a.v = v.value, a.d = d.value;
  return bound(in, a, kernels.embedding_backward);
}

}  // namespace raylite

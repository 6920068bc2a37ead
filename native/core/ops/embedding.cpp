// The contract of embedding and its gradient.
#include "core/ops/embedding.h"

#include "core/bind.h"

namespace raylite {

namespace {
constexpr std::int64_t kEntriesMax = std::int64_t{1} << 31;

/// A table that is part of a larger one says so in two last attributes.
template <class Arguments>
void take_part(Binder& in, Arguments& a) {
  const bool is_part = in.attributes_left() > 0;
  a.start = is_part ? in.integer("start", 0, kEntriesMax) : 0;
  a.entries = is_part ? in.integer("entries", 1, kEntriesMax) : a.v;
}
}

template <class T>
static Bound bind_embedding(Binder& in, const KernelsOf<T>& kernels) {
  EmbeddingArguments<T> a{};
  Dim n("N"), v("V"), d("D");
  a.ids = in.ints("ids", {&n});
  a.table = in.input<T>("table", {&v, &d});
  const bool has_addend = in.inputs_left() > 0;
  if (has_addend) a.addend = in.input<T>("addend", {&n, &d});
  a.y = in.output<T>("y", {&n, &d});
  a.offset = in.integer("offset", 0, kEntriesMax);
  a.n = n.value, a.v = v.value, a.d = d.value;
  take_part(in, a);
  in.may_share("y", "addend");
  in.finish();
  return bound(in, a, kernels.embedding);
}

template <class T>
static Bound bind_embedding_backward(Binder& in, const KernelsOf<T>& kernels) {
  EmbeddingBackwardArguments<T> a{};
  Dim n("N"), v("V"), d("D"), one("1", 1);
  a.ids = in.ints("ids", {&n});
  a.dy = in.input<T>("dy", {&n, &d});
  a.beta = in.input("beta", {&one});
  a.dtable = in.output("dtable", {&v, &d});
  a.accumulate = in.flag("accumulate");
  a.offset = in.integer("offset", 0, kEntriesMax);
  a.padding = in.integer("paddingId", -1, kEntriesMax);
  a.n = n.value, a.v = v.value, a.d = d.value;
  take_part(in, a);
  in.finish();
  return bound(in, a, kernels.embedding_backward);
}

RAYLITE_BIND_STORED(embedding)
RAYLITE_BIND_STORED(embedding_backward)

}  // namespace raylite

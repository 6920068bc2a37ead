// The contracts of heads dealt out to parts and back.
#include "core/ops/head_parts.h"

#include "core/bind.h"
#include "core/ops/heads.h"

namespace raylite {

namespace {

template <class Arguments>
void take_attributes(Binder& in, Arguments& a) {
  a.parts = in.integer("parts", 1, 4096);
  a.heads = in.integer("heads", 1, kColumnsMax);
  a.kv_heads = in.integer("kvHeads", 0, a.heads);
  a.head_dim = in.integer("headDim", 1, kColumnsMax / 4);
  a.q_layout = take_layout(in, "qOffset", "qHeadStride");
  a.k_layout = take_layout(in, "kOffset", "kHeadStride");
  a.v_layout = take_layout(in, "vOffset", "vHeadStride");
  if (a.heads % a.parts != 0 || (a.kv_heads % a.parts != 0 && a.parts % (a.kv_heads == 0 ? 1 : a.kv_heads) != 0)) {
    in.fail_shape(std::to_string(a.heads) + " and " + std::to_string(a.kv_heads) + " heads do not cut into " +
                  std::to_string(a.parts) + " parts");
  }
}

/// Columns of y.
template <class Arguments>
std::int64_t width_of(const Arguments& a) {
  const std::int64_t kv = a.kv_heads == 0 ? 0 : a.kv_heads < a.parts ? 1 : a.kv_heads / a.parts;
  return (a.heads / a.parts + 2 * kv) * a.head_dim;
}

}  // namespace

template <class T>
static Bound bind_heads_to_parts(Binder& in, const KernelsOf<T>& kernels) {
  HeadsToPartsArguments<T> a{};
  take_attributes(in, a);
  Dim n("N"), q("Q"), k("K"), v("V");
  a.q = in.input<T>("q", {&n, &q});
  a.q_layout.width = q.value;
  check_layout(in, "q", a.q_layout, a.heads, a.head_dim);
  if (a.kv_heads > 0) {
    a.k = in.input<T>("k", {&n, &k});
    a.v = in.input<T>("v", {&n, &v});
    a.k_layout.width = k.value, a.v_layout.width = v.value;
    check_layout(in, "k", a.k_layout, a.kv_heads, a.head_dim);
    check_layout(in, "v", a.v_layout, a.kv_heads, a.head_dim);
  }
  Dim rows("P*N", a.parts * n.value), w("W", width_of(a));
  a.y = in.output<T>("y", {&rows, &w});
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.heads_to_parts);
}

template <class T>
static Bound bind_parts_to_heads(Binder& in, const KernelsOf<T>& kernels) {
  PartsToHeadsArguments<T> a{};
  take_attributes(in, a);
  Dim rows("P*N"), w("W", width_of(a)), n("N"), q("Q"), k("K"), v("V");
  a.y = in.input<T>("y", {&rows, &w});
  a.q = in.output<T>("q", {&n, &q});
  a.q_layout.width = q.value;
  check_layout(in, "q", a.q_layout, a.heads, a.head_dim);
  std::int64_t covered = a.heads * a.head_dim;
  std::int64_t width = q.value;
  if (a.kv_heads > 0) {
    a.k = in.output<T>("k", {&n, &k});
    a.v = in.output<T>("v", {&n, &v});
    a.k_layout.width = k.value, a.v_layout.width = v.value;
    check_layout(in, "k", a.k_layout, a.kv_heads, a.head_dim);
    check_layout(in, "v", a.v_layout, a.kv_heads, a.head_dim);
    covered += 2 * a.kv_heads * a.head_dim;
    if (a.k != a.q) width += k.value;
    if (a.v != a.k && a.v != a.q) width += v.value;
    in.may_overlap("q", "k");
    in.may_overlap("q", "v");
    in.may_overlap("k", "v");
  }
  in.finish();
  a.n = n.value;
  if (rows.value != a.parts * a.n) in.fail_shape("y has " + std::to_string(rows.value) + " rows, expected " + std::to_string(a.parts * a.n));
  if (covered != width) in.fail_shape("heads cover " + std::to_string(covered) + " of " + std::to_string(width) + " columns");
  return bound(in, a, kernels.parts_to_heads);
}

RAYLITE_BIND_STORED(heads_to_parts)
RAYLITE_BIND_STORED(parts_to_heads)

}  // namespace raylite

// The contracts of the key-value cache.
#include "core/ops/attention_cached.h"

#include "core/bind.h"
#include "core/ops/heads.h"

namespace raylite {

template <class T>
static Bound bind_kv_append(Binder& in, const KernelsOf<T>& kernels) {
  KvAppendArguments<T> a{};
  Dim n("N"), k("K"), v("V"), b("B"), s("S"), m("M"), t("T", kCacheBlockTokens);
  a.kv_heads = in.integer("kvHeads", 1, kColumnsMax);
  a.head_dim = in.integer("headDim", 1, 1024);
  a.k_layout = take_layout(in, "kOffset", "kHeadStride");
  a.v_layout = take_layout(in, "vOffset", "vHeadStride");
  Dim gc("G*C", a.kv_heads * a.head_dim);
  a.k = in.input<T>("k", {&n, &k});
  a.v = in.input<T>("v", {&n, &v});
  a.places.slots = in.ints("slots", {&n});
  a.places.positions = in.ints("positions", {&n});
  a.places.blocks = in.ints("blocks", {&s, &m});
  in.input<T>("cacheK", {&b, &gc, &t});
  in.input<T>("cacheV", {&b, &t, &gc});
  a.cache_k = in.output<T>("cacheK", {&b, &gc, &t});
  a.cache_v = in.output<T>("cacheV", {&b, &t, &gc});
  in.must_share("cacheK", "cacheK");
  in.must_share("cacheV", "cacheV");
  in.finish();
  a.n = n.value, a.places.s = s.value, a.places.m = m.value, a.places.b = b.value;
  a.k_layout.width = k.value, a.v_layout.width = v.value;
  check_layout(in, "k", a.k_layout, a.kv_heads, a.head_dim);
  check_layout(in, "v", a.v_layout, a.kv_heads, a.head_dim);
  return bound(in, a, kernels.kv_append);
}

template <class T>
static Bound bind_attention_cached(Binder& in, const KernelsOf<T>& kernels) {
  AttentionCachedArguments<T> a{};
  Dim n("N"), q("Q"), b("B"), s("S"), m("M"), t("T", kCacheBlockTokens);
  a.heads = in.integer("heads", 1, kColumnsMax);
  a.kv_heads = in.integer("kvHeads", 1, a.heads);
  a.head_dim = in.integer("headDim", 1, 1024);
  a.scale = static_cast<float>(in.number("scale"));
  a.window = in.integer("window", 0, kColumnsMax);
  a.q_layout = take_layout(in, "qOffset", "qHeadStride");
  if (a.heads % a.kv_heads != 0) {
    in.fail_shape("heads " + std::to_string(a.heads) + " is not a multiple of kvHeads " + std::to_string(a.kv_heads));
  }
  Dim gc("G*C", a.kv_heads * a.head_dim), hc("H*C", a.heads * a.head_dim);
  a.q = in.input<T>("q", {&n, &q});
  a.cache_k = in.input<T>("cacheK", {&b, &gc, &t});
  a.cache_v = in.input<T>("cacheV", {&b, &t, &gc});
  a.places.slots = in.ints("slots", {&n});
  a.places.positions = in.ints("positions", {&n});
  a.places.blocks = in.ints("blocks", {&s, &m});
  a.o = in.output<T>("o", {&n, &hc});
  in.finish();
  a.n = n.value, a.places.s = s.value, a.places.m = m.value, a.places.b = b.value;
  a.q_layout.width = q.value;
  check_layout(in, "q", a.q_layout, a.heads, a.head_dim);
  return bound(in, a, kernels.attention_cached);
}

RAYLITE_BIND_STORED(kv_append)
RAYLITE_BIND_STORED(attention_cached)

}  // namespace raylite

// The contracts of attention and its gradient.
#include "core/ops/attention.h"

#include <cstdlib>

#include "core/bind.h"
#include "core/ops/heads.h"

namespace raylite {

namespace {

template <class Arguments>
void take_attributes(Binder& in, Arguments& a) {
  a.heads = in.integer("heads", 1, kColumnsMax);
  a.kv_heads = in.integer("kvHeads", 1, a.heads);
  a.head_dim = in.integer("headDim", 1, 1024);
  a.scale = static_cast<float>(in.number("scale"));
  a.mask.causal = in.flag("causal");
  a.mask.window = in.integer("window", 0, kColumnsMax);
  a.q_layout = take_layout(in, "qOffset", "qHeadStride");
  a.k_layout = take_layout(in, "kOffset", "kHeadStride");
  a.v_layout = take_layout(in, "vOffset", "vHeadStride");
  if (in.attributes_left() > 0) {
    a.dropout.probability = in.number("p");
    a.dropout.stream = static_cast<std::uint32_t>(in.integer("stream", 0, UINT16_MAX)) << 16;
    if (!(a.dropout.probability > 0 && a.dropout.probability < 1)) in.fail_shape("attribute \"p\" must be above 0 and below 1");
    const std::int64_t first_head = in.attributes_left() > 0 ? in.integer("firstHead", 0, UINT16_MAX) : 0;
    if (first_head + a.heads > UINT16_MAX) in.fail_shape("dropout takes at most 65535 heads");
    a.dropout.stream += static_cast<std::uint32_t>(first_head);
  }
  if (a.heads % a.kv_heads != 0) {
    in.fail_shape("heads " + std::to_string(a.heads) + " is not a multiple of kvHeads " + std::to_string(a.kv_heads));
  }
}

template <class T, class Arguments>
void take_qkv(Binder& in, Arguments& a, Dim& n, Dim& q, Dim& k, Dim& v) {
  a.q = in.input<T>("q", {&n, &q});
  a.k = in.input<T>("k", {&n, &k});
  a.v = in.input<T>("v", {&n, &v});
  a.mask.starts = in.ints("starts", {&n});
  a.mask.ends = in.ints("ends", {&n});
  Dim four("4", 4);
  a.dropout.random = a.dropout.probability > 0 ? in.ints("random", {&four}) : nullptr;
  a.n = n.value;
  a.q_layout.width = q.value, a.k_layout.width = k.value, a.v_layout.width = v.value;
  check_layout(in, "q", a.q_layout, a.heads, a.head_dim);
  check_layout(in, "k", a.k_layout, a.kv_heads, a.head_dim);
  check_layout(in, "v", a.v_layout, a.kv_heads, a.head_dim);
}

/// Gradients that share a tensor must not share columns: no two heads of them may meet.
template <class T>
void check_apart(const Binder& in, const T* a, const HeadLayout& al, std::int64_t a_heads, const T* b,
                 const HeadLayout& bl, std::int64_t b_heads, std::int64_t head_dim, std::int64_t rows) {
  if (a == b) {
    for (std::int64_t i = 0; i < a_heads; i++) {
      for (std::int64_t j = 0; j < b_heads; j++) {
        const std::int64_t distance = al.offset + i * al.head_stride - bl.offset - j * bl.head_stride;
        if (std::abs(distance) < head_dim) in.fail_shape("heads of dq, dk, dv share columns of one tensor");
      }
    }
  } else if (a < b + rows * bl.width && b < a + rows * al.width) {
    in.fail_shape("dq, dk, dv must be the same tensor or lie apart");
  }
}

}  // namespace

template <class T>
static Bound bind_attention(Binder& in, const KernelsOf<T>& kernels) {
  AttentionArguments<T> a{};
  Dim n("N"), q("Q"), k("K"), v("V");
  take_attributes(in, a);
  take_qkv<T>(in, a, n, q, k, v);
  Dim h("H", a.heads), hc("H*C", a.heads * a.head_dim);
  a.o = in.output<T>("o", {&n, &hc});
  a.lse = in.output("lse", {&n, &h});
  in.finish();
  return bound(in, a, kernels.attention);
}

template <class T>
static Bound bind_attention_backward(Binder& in, const KernelsOf<T>& kernels) {
  AttentionBackwardArguments<T> a{};
  Dim n("N"), q("Q"), k("K"), v("V");
  take_attributes(in, a);
  Dim h("H", a.heads), hc("H*C", a.heads * a.head_dim);
  a.grad_o = in.input<T>("do", {&n, &hc});
  a.o = in.input<T>("o", {&n, &hc});
  a.lse = in.input("lse", {&n, &h});
  take_qkv<T>(in, a, n, q, k, v);
  a.dq = in.output<T>("dq", {&n, &q});
  a.dk = in.output<T>("dk", {&n, &k});
  a.dv = in.output<T>("dv", {&n, &v});
  in.may_overlap("dq", "dk");
  in.may_overlap("dq", "dv");
  in.may_overlap("dk", "dv");
  in.finish();
  check_apart(in, a.dq, a.q_layout, a.heads, a.dk, a.k_layout, a.kv_heads, a.head_dim, a.n);
  check_apart(in, a.dq, a.q_layout, a.heads, a.dv, a.v_layout, a.kv_heads, a.head_dim, a.n);
  check_apart(in, a.dk, a.k_layout, a.kv_heads, a.dv, a.v_layout, a.kv_heads, a.head_dim, a.n);
  return bound(in, a, kernels.attention_backward);
}

RAYLITE_BIND_STORED(attention)
RAYLITE_BIND_STORED(attention_backward)

}  // namespace raylite

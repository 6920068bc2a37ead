// The contract of the rotary embedding.
#include "core/ops/rotary.h"

#include "core/bind.h"
#include "core/ops/heads.h"

namespace raylite {

template <class T>
static Bound bind_rotary(Binder& in, const KernelsOf<T>& kernels) {
  RotaryArguments<T> a{};
  Dim n("N"), w("W"), p("P"), half("R/2");
  a.heads = in.integer("heads", 1, kColumnsMax);
  const std::int64_t head_dim = in.integer("headDim", 1, kColumnsMax);
  a.rotary_dim = in.integer("rotaryDim", 2, head_dim);
  const HeadLayout offsets = take_layout(in, "offset", "headStride");
  a.inverse = in.flag("inverse");
  a.interleaved = in.flag("interleaved");
  if (a.rotary_dim % 2 != 0) in.fail_shape("rotaryDim is " + std::to_string(a.rotary_dim) + ", expected an even number");
  half.value = a.rotary_dim / 2;
  a.x = in.input<T>("x", {&n, &w});
  a.cos = in.input("cos", {&p, &half});
  a.sin = in.input("sin", {&p, &half});
  a.positions = in.ints("positions", {&n});
  a.y = in.output<T>("y", {&n, &w});
  in.may_share("y", "x");
  in.finish();
  check_layout(in, "x", {w.value, offsets.offset, offsets.head_stride}, a.heads, head_dim);
  a.n = n.value, a.w = w.value, a.p = p.value;
  a.offset = offsets.offset, a.head_stride = offsets.head_stride;
  return bound(in, a, kernels.rotary);
}

RAYLITE_BIND_STORED(rotary)

}  // namespace raylite

// The contracts of add, scale, cast, copy, fill and gather_rows.
#include "core/ops/elementwise.h"

#include "core/bind.h"

namespace raylite {

template <class T>
static Bound bind_add(Binder& in, const KernelsOf<T>& kernels) {
  AddArguments<T> a{};
  Dim n("n");
  a.a = in.flat_input<T>("a", n);
  a.b = in.flat_input<T>("b", n);
  a.y = in.flat_output<T>("y", n);
  in.may_share("y", "a");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.add);
}

template <class T>
static Bound bind_scale(Binder& in, const KernelsOf<T>& kernels) {
  ScaleArguments<T> a{};
  Dim n("n");
  a.factor = static_cast<float>(in.number("factor"));
  a.x = in.flat_input<T>("x", n);
  a.y = in.flat_output<T>("y", n);
  in.may_share("y", "x");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.scale);
}

template <class T>
static Bound bind_cast(Binder& in, const KernelsOf<T>& kernels) {
  CastArguments<T> a{};
  Dim n("n");
  a.x = in.flat_input<T>("x", n);
  a.to = in.output_dtype();
  switch (a.to) {
    case DType::kBF16:
      a.y = in.flat_output<BFloat16>("y", n);
      break;
    case DType::kF16:
      a.y = in.flat_output<Float16>("y", n);
      break;
    default:
      a.y = in.flat_output<float>("y", n);
  }
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.cast);
}

template <class T>
static Bound bind_copy(Binder& in, const KernelsOf<T>& kernels) {
  CopyArguments<T> a{};
  Dim n("n");
  a.a = in.flat_input<T>("a", n);
  a.y = in.flat_output<T>("y", n);
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.copy);
}

template <class T>
static Bound bind_fill(Binder& in, const KernelsOf<T>& kernels) {
  FillArguments<T> a{};
  Dim n("n");
  a.value = static_cast<float>(in.number("value"));
  a.y = in.flat_output<T>("y", n);
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.fill);
}

template <class T>
static Bound bind_gather_rows(Binder& in, const KernelsOf<T>& kernels) {
  GatherRowsArguments<T> a{};
  Dim n("N"), m("M"), d("D");
  a.x = in.input<T>("x", {&n, &d});
  a.index = in.ints("index", {&m});
  a.y = in.output<T>("y", {&m, &d});
  in.finish();
  a.n = n.value, a.m = m.value, a.d = d.value;
  return bound(in, a, kernels.gather_rows);
}

RAYLITE_BIND_STORED(add)
RAYLITE_BIND_STORED(scale)
RAYLITE_BIND_STORED(cast)
RAYLITE_BIND_STORED(copy)
RAYLITE_BIND_STORED(fill)
RAYLITE_BIND_STORED(gather_rows)

}  // namespace raylite

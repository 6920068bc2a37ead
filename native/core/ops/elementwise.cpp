// The contracts of add, scale, copy, fill and gather_rows.
#include "core/ops/elementwise.h"

#include "core/bind.h"

namespace raylite {

Bound bind_add(Binder& in, const Kernels& kernels) {
  AddArguments a{};
  Dim n("n");
  a.a = in.flat_input("a", n);
  a.b = in.flat_input("b", n);
  a.y = in.flat_output("y", n);
  in.may_share("y", "a");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.add);
}

Bound bind_scale(Binder& in, const Kernels& kernels) {
  ScaleArguments a{};
  Dim n("n");
  a.factor = static_cast<float>(in.number("factor"));
  a.x = in.flat_input("x", n);
  a.y = in.flat_output("y", n);
  in.may_share("y", "x");
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.scale);
}

Bound bind_copy(Binder& in, const Kernels& kernels) {
  CopyArguments a{};
  Dim n("n");
  a.a = in.flat_input("a", n);
  a.y = in.flat_output("y", n);
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.copy);
}

Bound bind_fill(Binder& in, const Kernels& kernels) {
  FillArguments a{};
  Dim n("n");
  a.value = static_cast<float>(in.number("value"));
  a.y = in.flat_output("y", n);
  in.finish();
  a.n = n.value;
  return bound(in, a, kernels.fill);
}

Bound bind_gather_rows(Binder& in, const Kernels& kernels) {
  GatherRowsArguments a{};
  Dim n("N"), m("M"), d("D");
  a.x = in.input("x", {&n, &d});
  a.index = in.ints("index", {&m});
  a.y = in.output("y", {&m, &d});
  in.finish();
  a.n = n.value, a.m = m.value, a.d = d.value;
  return bound(in, a, kernels.gather_rows);
}

}  // namespace raylite

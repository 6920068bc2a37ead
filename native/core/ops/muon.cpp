// The contract of Muon.
#include "core/ops/muon.h"

#include <algorithm>

#include "core/bind_step.h"

namespace raylite {

std::int64_t muon_workspace_floats(std::int64_t rows, std::int64_t columns) {
  const auto lines = [](std::int64_t floats) { return (floats + 15) / 16 * 16; };
  const std::int64_t least = std::min(rows, columns);
  return 2 * lines(rows * columns) + 2 * lines(least * least);
}

template <class F>
static Bound bind_muon(Binder& in, const StepKernels<F>& kernels) {
  using P = typename F::P;
  using S = typename F::S;
  MuonArguments<F> a{};
  Dim rows("R"), columns("C"), one("1", 1);
  in.input<P>("p", {&rows, &columns});
  in.input<S>("m", {&rows, &columns});
  a.g = in.input("g", {&rows, &columns});
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  bind_random(in, a);
  a.p = in.output<P>("p", {&rows, &columns});
  a.m = in.output<S>("m", {&rows, &columns});
  a.rows = rows.value, a.columns = columns.value;
  Dim floats("workspace", muon_workspace_floats(a.rows, a.columns));
  a.workspace = in.output("workspace", {&floats});
  Dim n("R*C", a.rows * a.columns);
  bind_rounded(in, a, n);
  a.n = a.decay_end = n.value;
  in.must_share("p", "p");
  in.must_share("m", "m");
  a.momentum = in.number("momentum");
  a.nesterov = in.flag("nesterov");
  a.iterations = in.integer("iterations", 1, 100);
  a.weight_decay = in.number("weightDecay");
  bind_chance(in, a);
  in.finish();
  return bound(in, a, kernels.muon);
}

RAYLITE_BIND_STEP(muon)

}  // namespace raylite

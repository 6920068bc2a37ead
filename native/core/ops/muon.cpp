// The contract of Muon.
#include "core/ops/muon.h"

#include <algorithm>

#include "core/bind.h"

namespace raylite {

std::int64_t muon_workspace_floats(std::int64_t rows, std::int64_t columns) {
  const auto lines = [](std::int64_t floats) { return (floats + 15) / 16 * 16; };
  const std::int64_t least = std::min(rows, columns);
  return 2 * lines(rows * columns) + 2 * lines(least * least);
}

Bound bind_muon(Binder& in, const Kernels& kernels) {
  MuonArguments a{};
  Dim rows("R"), columns("C"), one("1", 1);
  in.input("p", {&rows, &columns});
  in.input("m", {&rows, &columns});
  a.g = in.input("g", {&rows, &columns});
  a.factor = in.input("factor", {&one});
  a.lr = in.input("lr", {&one});
  a.p = in.output("p", {&rows, &columns});
  a.m = in.output("m", {&rows, &columns});
  a.rows = rows.value, a.columns = columns.value;
  Dim floats("workspace", muon_workspace_floats(a.rows, a.columns));
  a.workspace = in.output("workspace", {&floats});
  in.must_share("p", "p");
  in.must_share("m", "m");
  a.momentum = in.number("momentum");
  a.nesterov = in.flag("nesterov");
  a.iterations = in.integer("iterations", 1, 100);
  a.weight_decay = in.number("weightDecay");
  in.finish();
  return bound(in, a, kernels.muon);
}

}  // namespace raylite

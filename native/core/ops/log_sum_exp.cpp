// The contract of log_sum_exp.
#include "core/ops/log_sum_exp.h"

#include "core/bind.h"

namespace raylite {

Bound bind_log_sum_exp(Binder& in, const Kernels& kernels) {
  LogSumExpArguments a{};
  Dim n("N"), v("V");
  a.x = in.input("x", {&n, &v});
  a.index = in.int_output("index", {&n});
  a.top = in.output("top", {&n});
  a.log_sum = in.output("logSum", {&n});
  in.finish();
  a.n = n.value, a.v = v.value;
  return bound(in, a, kernels.log_sum_exp);
}

}  // namespace raylite

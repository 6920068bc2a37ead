// log_sum_exp: a row is one thread's.
#include "cpu/exp_sum.h"
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

void log_sum_exp(const LogSumExpArguments& a, const Team& team) {
  for (std::int64_t i = team.claim(); i < a.n; i = team.claim()) {
    const float* x = a.x + i * a.v;
    const ExpSum found = exp_sum(x, a.v, nullptr);
    std::int64_t index = 0;
    while (index + 1 < a.v && x[index] != found.top) index++;
    a.index[i] = static_cast<std::int32_t>(index);
    a.top[i] = found.top;
    a.log_sum[i] = __builtin_logf(found.sum);
  }
}

}  // namespace raylite::RL_ISA

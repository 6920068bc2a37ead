// The maximum of a row and the sum of its exponentials under it: what losses and log-probabilities are made of, by the same
// roundings in both.
#pragma once
#include "cpu/math.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

struct ExpSum {
  float top, sum;
};

/// Over x[count]; `to` receives exp(x - top) where it is not null, and may be x.
RL_INLINE ExpSum exp_sum(const float* x, std::int64_t count, float* to) {
  Floats most = broadcast(-3.4e38f);
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t j = 0; j < whole; j += kLanes) most = larger(load(x + j), most);
  float top = max_lanes(most);
  for (std::int64_t j = whole; j < count; j++) top = x[j] > top ? x[j] : top;
  Floats sums{};
  const Floats shift = broadcast(top);
  float rest = 0;
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Floats e = exp_of(load(x + j) - shift);
    sums += e;
    if (to != nullptr) store(to + j, e);
  }
  if (whole < count) {
    const int n = static_cast<int>(count - whole);
    const Floats e = exp_of(load_first(x + whole, n) - shift);
    for (int lane = 0; lane < n; lane++) rest += e[lane];
    if (to != nullptr) store_first(to + whole, e, n);
  }
  return {top, sum_lanes(sums) + rest};
}

}  // namespace raylite::RL_ISA

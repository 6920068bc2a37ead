// What choosing a token needs to know of its logits. N rows, V vocabulary.
#pragma once
#include <cstdint>

namespace raylite {

/// Per row: index[i] = the smallest j with the largest x[i][j]; top[i] = that value; log_sum[i] = log sum exp(x[i] - top[i]).
/// log p(j) = x[j] - top - log_sum, to the bit what linear_cross_entropy makes of the same logits.
struct LogSumExpArguments {
  const float* x;  // [N,V]
  std::int32_t* index;
  float* top;
  float* log_sum;
  std::int64_t n, v;
};

}  // namespace raylite

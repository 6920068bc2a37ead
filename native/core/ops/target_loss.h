// Losses of predictions against given numbers, and their gradient. N rows of L predictions.
#pragma once
#include <cstdint>

namespace raylite {

enum class TargetLoss : std::int64_t {
  kSquaredError = 0,        // mean over the row of (x - t)^2
  kBinaryCrossEntropy = 1,  // mean over the row of log(1 + e^x) - x t
  kUpstream = 2,            // sum over the row of x t: t is the gradient that someone else took
};

/// loss[1] = scale[0] * sum of row_losses[N]. A target that is NaN counts for nothing.
template <class T>
struct TargetLossArguments {
  const T* x;
  const float* targets;
  const float* scale;
  float* loss;
  float* row_losses;
  std::int64_t n, l;
  TargetLoss kind;
};

/// dx[N,L] of loss[1] above.
template <class T>
struct TargetLossBackwardArguments {
  const T* x;
  const float* targets;
  const float* scale;
  T* dx;
  std::int64_t n, l;
  TargetLoss kind;
};

}  // namespace raylite

// The language-model head with its loss (and gradients) by chunks of rows: all logits never exist at once.
// N rows, D width, V vocabulary. w is [V,D], or [D,V] when transposed.
#pragma once
#include <cstdint>

namespace raylite {

/// loss[1] = scale[0] * sum over rows of (log sum exp(logits) - logits[label]); token_losses[N] without the scale, 0
/// where the label is -100. With gradients (dx not null): dx[N,D], dw (+)= of that loss. workspace is [chunk,V].
/// A label that is neither -100 nor in 0..V-1 fails the run.
struct LinearCrossEntropyArguments {
  const float* x;
  const float* w;
  const std::int32_t* labels;
  const float* scale;
  const float* beta;
  float* loss;
  float* token_losses;
  float* dx;
  float* dw;
  float* logits;
  std::int64_t n, d, v, chunk;
  bool transposed;
  bool accumulate;
};

}  // namespace raylite

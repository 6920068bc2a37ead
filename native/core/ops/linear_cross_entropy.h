// The language-model head with its loss (and gradients) by chunks of rows: all logits never exist at once.
// N rows, D width, V vocabulary. w is [V,D], or [D,V] when transposed.
#pragma once
#include <cstdint>

namespace raylite {

/// logits = x w (+ bias[V]); with l = log sum exp(logits) and s = label_smoothing the loss of a row is
/// l - (1 - s) logits[label] - s mean(logits) + z_loss l^2. loss[1] = scale[0] * sum over rows; token_losses[N] without the
/// scale, 0 where the label is -100. weights[N] (or null: all 1) multiply the losses in the sum, and so the gradient, of their
/// rows. entropies[N] (or null) are those of softmax(logits), in nats, 0 where the label is -100; without gradients only. With gradients (dx not null) of that loss: dx[N,D]; dw and dbias (+)= theirs, each
/// unless null (frozen, or no bias). workspace is [chunk,V]. A label that is neither -100 nor in 0..V-1 fails the run.
template <class T>
struct LinearCrossEntropyArguments {
  const T* x;
  const T* w;
  const std::int32_t* labels;
  const float* scale;
  const T* bias;
  const float* weights;
  const float* beta;
  float* loss;
  float* token_losses;
  float* entropies;
  T* dx;
  float* dw;
  float* dbias;
  float* logits;
  std::int64_t n, d, v, chunk;
  float label_smoothing, z_loss;
  bool transposed;
  bool accumulate;
};

}  // namespace raylite

// One optimiser step in place: AdamW (arXiv:1711.05101, Alg. 2, decay scaled by lr as torch does), or Adam with L2.
#pragma once
#include <cstdint>

namespace raylite {

/// g' = g * factor[0]; m, v, p are updated from g'. Elements from decay_end on do not decay. step[0] counts from 1.
/// rounded: where p is stored for T of 16 bits; null for float. A factor that is NaN leaves everything as it is.
/// adamw_mode: p *= 1 - lr*weight_decay before the update; else g' += weight_decay * p.
template <class T>
struct AdamWArguments {
  float* p;
  float* m;
  float* v;
  const float* g;
  const float* factor;
  const float* lr;
  const float* step;
  T* rounded;
  std::int64_t n, decay_end;
  double beta1, beta2, eps, weight_decay;
  bool adamw_mode, bias_correction;
};

}  // namespace raylite

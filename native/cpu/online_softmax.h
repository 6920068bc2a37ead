// Softmax over keys that come in blocks: a row's sums so far shrink when a larger score turns up (arXiv:2205.14135, Algorithm 1).
// Attention over packed rows and over a cache share it, and with it every rounding.
#pragma once
#include "cpu/math.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kKeys = 64;       // of a block
constexpr float kHidden = -1e30f;  // a score whose exponential is 0 beside any visible one

/// Hides the scores outside of [begin, end) of one row of a block.
RL_INLINE void hide(float* scores, std::int64_t begin, std::int64_t end) {
  for (std::int64_t j = 0; j < begin; j++) scores[j] = kHidden;
  for (std::int64_t j = end; j < kKeys; j++) scores[j] = kHidden;
}

/// Scores of one row become exponentials under the row's running maximum `top`; `total` and sums[padded] shrink to a new one.
RL_INLINE void soften_row(float* row, float& top, float& total, float* sums, std::int64_t padded) {
  Floats most = load(row);
  for (std::int64_t j = kLanes; j < kKeys; j += kLanes) most = larger(load(row + j), most);
  const float block_top = max_lanes(most);
  const float new_top = block_top > top ? block_top : top;
  Floats block_total{};
  for (std::int64_t j = 0; j < kKeys; j += kLanes) {
    const Floats e = exp_of(load(row + j) - new_top);
    store(row + j, e);
    block_total += e;
  }
  if (new_top > top) {
    const float shrink = exp_of(broadcast(top - new_top))[0];
    total *= shrink;
    for (std::int64_t j = 0; j < padded; j += kLanes) store(sums + j, load(sums + j) * shrink);
  }
  total += sum_lanes(block_total);
  top = new_top;
}

}  // namespace raylite::RL_ISA

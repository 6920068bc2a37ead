// sum_squares, clip_factor. Sums of squares are kept in double: the norm of 10^9 gradients must not lose its small ones.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {
constexpr std::int64_t kBlock = 4096;  // elements summed in float lanes before they join the double
}

void sum_squares(const SumSquaresArguments& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  double total = 0;
  for (std::int64_t at = all.begin; at < all.end; at += kBlock) {
    const std::int64_t count = min_of(kBlock, all.end - at);
    Floats lanes[4] = {};
    std::int64_t i = 0;
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
      for (int k = 0; k < 4; k++) {
        const Floats x = load(a.g + at + i + k * kLanes);
        lanes[k] += x * x;
      }
    }
    each_vector(count - i, [&](std::int64_t j, int n) {
      const Floats x = load_n(a.g + at + i + j, n);
      lanes[0] += x * x;
    });
    for (int k = 0; k < 4; k++) {
      for (int lane = 0; lane < kLanes; lane++) total += static_cast<double>(lanes[k][lane]);
    }
  }
  double* partials = reinterpret_cast<double*>(team.workspace);
  partials[team.index * 8] = total;  // a cache line each
  team.barrier();
  if (team.index != 0) return;
  double sum = a.accumulate ? static_cast<double>(a.s[0]) : 0.0;
  for (int thread = 0; thread < team.count; thread++) sum += partials[thread * 8];
  a.s[0] = static_cast<float>(sum);
}

std::size_t sum_squares_workspace(const SumSquaresArguments&, int threads) {
  return static_cast<std::size_t>(threads) * 64;
}

void clip_factor(const ClipFactorArguments& a, const Team& team) {
  if (team.index != 0) return;
  const float scale = a.loss_scale == nullptr ? 1.0f : a.loss_scale[0];
  const float norm = __builtin_sqrtf(a.s[0]) / scale;
  const float factor = a.max_norm / (norm + 1e-6f);
  a.norm[0] = norm;
  a.factor[0] = !__builtin_isfinite(norm) ? __builtin_nanf("") : (a.max_norm > 0 && factor < 1.0f ? factor : 1.0f) / scale;
}

}  // namespace raylite::RL_ISA

// Sums over rows that are split among threads: each thread adds into a partial row of its own, then columns are split and
// the partials are added in the order of threads.
#pragma once
#include "cpu/split.h"

namespace raylite::RL_ISA {

RL_INLINE std::int64_t padded(std::int64_t width) { return (width + 15) / 16 * 16; }

RL_INLINE std::size_t partials_bytes(std::int64_t width, int threads) {
  return static_cast<std::size_t>(padded(width)) * 4 * static_cast<std::size_t>(threads);
}

/// This thread's partial row of the workspace, zeroed.
RL_INLINE float* partial_row(const Team& team, std::int64_t width) {
  float* row = reinterpret_cast<float*>(team.workspace) + team.index * padded(width);
  __builtin_memset(row, 0, static_cast<std::size_t>(width) * 4);
  return row;
}

/// out[0..count-1] (+)= sum over threads of their partial row from `offset` on. After a barrier.
RL_INLINE void reduce_partials(const Team& team, std::int64_t width, std::int64_t offset, std::int64_t count, float* out,
                               bool adds) {
  const Range columns = share_elements(team, count);
  const float* partials = reinterpret_cast<const float*>(team.workspace) + offset;
  each_vector(columns.end - columns.begin, [&](std::int64_t i, int n) {
    const std::int64_t j = columns.begin + i;
    Floats total = adds ? load_n(out + j, n) : broadcast(0);
    for (int thread = 0; thread < team.count; thread++) total += load_n(partials + thread * padded(width) + j, n);
    store_n(out + j, total, n);
  });
}

}  // namespace raylite::RL_ISA

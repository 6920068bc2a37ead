// How a kernel divides rows or elements among the threads of its team.
#pragma once
#include "core/team.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

struct Range {
  std::int64_t begin, end;
};

/// This thread's share of `count` items, cut at multiples of `grain`. Shares depend on count and team size alone.
RL_INLINE Range share(const Team& team, std::int64_t count, std::int64_t grain) {
  const std::int64_t grains = (count + grain - 1) / grain;
  const std::int64_t begin = grains * team.index / team.count * grain;
  const std::int64_t end = grains * (team.index + 1) / team.count * grain;
  return {min_of(begin, count), min_of(end, count)};
}

/// Elements too few to be worth a second core.
constexpr std::int64_t kAlone = 8192;

/// As share(), but all of it on thread 0 when the work (items * cost, in elements) is tiny.
RL_INLINE Range share_rows(const Team& team, std::int64_t count, std::int64_t cost) {
  if (count * cost <= kAlone) return team.index == 0 ? Range{0, count} : Range{0, 0};
  return share(team, count, 1);
}

/// Asks for what lies at `p` (where there may be nothing), to be read after some other work.
RL_INLINE void fetch(const void* p) { __builtin_prefetch(p, 0, 2); }

RL_INLINE Range share_elements(const Team& team, std::int64_t count) {
  if (count <= kAlone) return team.index == 0 ? Range{0, count} : Range{0, 0};
  return share(team, count, 1024);
}

}  // namespace raylite::RL_ISA

// How an element-wise optimiser walks over its slice: this thread's share, in a part that decays and one that does not.
#pragma once
#include "cpu/split.h"

namespace raylite::RL_ISA {

/// Calls update(begin, end, decay) for both parts; each may be empty.
template <class F>
RL_INLINE void step_elements(const Team& team, std::int64_t n, std::int64_t decay_end, double weight_decay, F update) {
  const Range all = share_elements(team, n);
  const std::int64_t split = max_of(all.begin, min_of(all.end, decay_end));
  update(all.begin, split, weight_decay);
  update(split, all.end, 0.0);
}

}  // namespace raylite::RL_ISA

// How an element-wise optimiser walks over its slice: this thread's share, in a part that decays and one that does not, and
// how it stores what it steps.
#pragma once
#include "core/ops/step.h"
#include "cpu/philox.h"
#include "cpu/split.h"
#include "cpu/storage.h"

namespace raylite::RL_ISA {

/// Random bits for one vector of elements: 16 for each number that is rounded by chance.
struct Chances {
  Words low, high;
};

/// Which of the chances of an element a number takes.
enum class Chance { kState, kSecondState, kParameter };

/// Rounding of x up or down to bf16, with the probability that keeps the mean: the mean of x + u - (x + u) % 2^16 over all
/// u < 2^16 is x. What is not finite stays as it is.
RL_INLINE Halves narrow_by_chance(Floats x, Words chance) {
  const Ints wide = bits(x);
  const Ints not_finite = (wide & 0x7f800000) == 0x7f800000;
  const Ints quiet = select_bits(x != x, wide | 0x400000, wide);
  return upper_halves(select_bits(not_finite, quiet, wide + reinterpret_cast<Ints>(chance & 0xffffu)));
}

/// Stores a float as it is.
template <Chance kChance>
RL_INLINE void store_stepped(float* p, Floats x, int n, const Chances&) {
  store_n(p, x, n);
}

/// Stores a bf16 rounded by chance.
template <Chance kChance>
RL_INLINE void store_stepped(BFloat16* p, Floats x, int n, const Chances& chances) {
  const Words words = kChance == Chance::kParameter ? chances.high : chances.low;
  const Halves halves = narrow_by_chance(x, kChance == Chance::kSecondState ? words >> 16 : words);
  if (n == kLanes) {
    store_halves(p, halves);
  } else {
    store_halves_first(p, halves, n);
  }
}

/// Stores a stepped parameter, and rounded to nearest where programs read it.
template <class F>
RL_INLINE void store_parameter(const StepArguments<F>& a, std::int64_t i, Floats x, int n, const Chances& chances) {
  store_stepped<Chance::kParameter>(a.p + i, x, n, chances);
  if constexpr (!std::is_same_v<typename F::R, float>) store_n(a.rounded + i, x, n);
}

/// Whether the factor is NaN: then there is no step. Parameters are still rounded, to what they were: the place they are rounded
/// to may be one that is copied from.
template <class F>
RL_INLINE bool is_skipped(const StepArguments<F>& a, std::int64_t count, const Team& team) {
  if (a.factor[0] == a.factor[0]) return false;
  if constexpr (!std::is_same_v<typename F::R, float>) {
    const Range all = share_elements(team, count);
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) { store_n(a.rounded + all.begin + j, load_n(a.p + all.begin + j, n), n); });
  }
  return true;
}

/// Calls f(i, n, chances) for each vector of begin..end-1; begin is a multiple of 32. Elements e and e + 16 of a block of 32
/// share a counter (block * 16 + e % 16, stream, step): the first takes words 0 and 1, the other words 2 and 3.
template <class F, class Step>
RL_INLINE void each_step(const StepArguments<F>& a, std::int64_t begin, std::int64_t end, Step f) {
  if constexpr (std::is_same_v<typename F::P, float> && std::is_same_v<typename F::S, float>) {
    each_vector(end - begin, [&](std::int64_t j, int n) { f(begin + j, n, Chances{}); });
  } else {
    constexpr std::uint32_t kApart = 0x5bf03635;  // from masks of dropout under the same seed
    const std::uint32_t key0 = static_cast<std::uint32_t>(a.random[0]);
    const std::uint32_t key1 = static_cast<std::uint32_t>(a.random[1]) ^ kApart;
    Words lanes;
    for (int lane = 0; lane < kLanes; lane++) lanes[lane] = static_cast<std::uint32_t>(lane);
    for (std::int64_t block = begin; block < end; block += 32) {
      for (int group = 0; group < 16; group += kLanes) {
        const std::int64_t counter = (a.first + block) / 2 + group;
        Words c[4];
        c[0] = lanes + static_cast<std::uint32_t>(counter);  // a multiple of kLanes: no lane carries
        c[1] = Words{} + static_cast<std::uint32_t>(counter >> 32);
        c[2] = Words{} + a.stream;
        c[3] = Words{} + static_cast<std::uint32_t>(a.random[2]);
        philox(c, key0, key1);
        for (int half = 0; half < 2; half++) {
          const std::int64_t i = block + 16 * half + group;
          const Chances chances{c[2 * half], c[2 * half + 1]};
          if (i + kLanes <= end) {
            f(i, kLanes, chances);
          } else if (i < end) {
            f(i, static_cast<int>(end - i), chances);
          }
        }
      }
    }
  }
}

/// Calls update(begin, end, decay) for both parts; each may be empty.
template <class F, class Update>
RL_INLINE void step_elements(const StepArguments<F>& a, const Team& team, Update update) {
  const Range all = share_elements(team, a.n);
  const std::int64_t split = max_of(all.begin, min_of(all.end, a.decay_end));
  update(all.begin, split, a.weight_decay);
  update(split, all.end, 0.0);
}

}  // namespace raylite::RL_ISA

// What the element-wise optimisers share: how an element's chances are drawn and what is stored, as native/cpu/step.h.
#pragma once
#include "core/ops/step.h"
#include "cuda/elements.cuh"
#include "cuda/philox.cuh"

namespace raylite::cuda {

/// Random bits for one element: 16 for each number that is rounded by chance.
struct Chances {
  std::uint32_t low, high;
};

template <class F>
constexpr bool kDrawsChances = !std::is_same_v<typename F::P, float> || !std::is_same_v<typename F::S, float>;

template <class F>
__device__ inline Chances chances_of(const StepArguments<F>& a, std::int64_t i) {
  if constexpr (!kDrawsChances<F>) {
    return {};
  } else {
    constexpr std::uint32_t kApart = 0x5bf03635;  // from masks of dropout under the same seed
    const std::int64_t element = a.first + i;
    const std::int64_t counter = element / 32 * 16 + element % 16;
    const int half = static_cast<int>(element % 32 / 16);
    const Words4 c = philox(static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), a.stream,
                            static_cast<std::uint32_t>(a.random[2]), static_cast<std::uint32_t>(a.random[0]),
                            static_cast<std::uint32_t>(a.random[1]) ^ kApart);
    return half == 0 ? Chances{c.at[0], c.at[1]} : Chances{c.at[2], c.at[3]};
  }
}

/// Rounding up or down to bf16, with the probability that keeps the mean. What is not finite stays as it is.
__device__ inline BFloat16 narrow_by_chance(float x, std::uint32_t chance) {
  const std::uint32_t wide = bits_of(x);
  if ((wide & 0x7f800000u) == 0x7f800000u) return {static_cast<std::uint16_t>((x != x ? wide | 0x400000u : wide) >> 16)};
  return {static_cast<std::uint16_t>((wide + (chance & 0xffffu)) >> 16)};
}

/// x as S holds it.
template <class S>
__device__ inline S stepped(float x, std::uint32_t chance) {
  if constexpr (std::is_same_v<S, float>) {
    return x;
  } else {
    return narrow_by_chance(x, chance);
  }
}

/// An optimiser's numbers of one step, made once by one thread, as `Rule(arguments)`; its elements by `step(p, g, states, decays)`,
/// with as many states as kStates and places `Rule::state(arguments, k)` for them, of which the last may be null.
template <class Rule, class Arguments>
__global__ void rule_kernel(Arguments a, Rule* to) {
  *to = Rule(a);
}

template <class F, class Rule, class Arguments>
struct Step {
  Arguments a;
  const Rule* rule;
  template <int W>
  __device__ void at(std::int64_t i) const {
    using P = typename F::P;
    using S = typename F::S;
    Pack<W> p = load_pack<W>(a.p + i);
    if (a.factor[0] != a.factor[0]) {  // NaN: no step, but for the rounding of what there is
      if constexpr (!std::is_same_v<typename F::R, float>) store_pack<W>(a.rounded + i, p);
      return;
    }
    const Rule numbers = *rule;
    const Pack<W> g = load_pack<W>(a.g + i);
    Pack<W> states[Rule::kStates] = {};
    RL_UNROLL
    for (int k = 0; k < Rule::kStates; k++) {
      if (Rule::state(a, k) != nullptr) states[k] = load_pack<W>(Rule::state(a, k) + i);
    }
    P stepped_p[W];
    S stepped_states[Rule::kStates][W];
    RL_UNROLL
    for (int j = 0; j < W; j++) {
      const Chances chances = chances_of(a, i + j);
      float values[Rule::kStates];
      RL_UNROLL
      for (int k = 0; k < Rule::kStates; k++) values[k] = states[k].at[j];
      numbers.step(p.at[j], g.at[j], values, i + j < a.decay_end);
      stepped_p[j] = stepped<P>(p.at[j], chances.high);
      RL_UNROLL
      for (int k = 0; k < Rule::kStates; k++) stepped_states[k][j] = stepped<S>(values[k], k == 0 ? chances.low : chances.low >> 16);
    }
    store_values<W>(a.p + i, stepped_p);
    RL_UNROLL
    for (int k = 0; k < Rule::kStates; k++) {
      if (Rule::state(a, k) != nullptr) store_values<W>(Rule::state(a, k) + i, stepped_states[k]);
    }
    if constexpr (!std::is_same_v<typename F::R, float>) store_pack<W>(a.rounded + i, p);
  }
};

template <class F, class Rule, class Arguments>
void run_step(const Arguments& a, const Team& team) {
  auto* rule = reinterpret_cast<Rule*>(team.workspace);
  launch(*team.queue, dim3(1), dim3(1), 0, rule_kernel<Rule, Arguments>, a, rule);
  bool aligned = are_aligned(a.p, a.g, a.rounded);
  for (int k = 0; k < Rule::kStates; k++) aligned = aligned && is_aligned(Rule::state(a, k));
  each_element<4>(*team.queue, a.n, aligned, Step<F, Rule, Arguments>{a, rule});
}

template <class F, class Rule, class Arguments>
Kernel<Arguments> step_kernel() {
  return {run_step<F, Rule, Arguments>, [](const Arguments&, int) { return sizeof(Rule); }};
}

}  // namespace raylite::cuda

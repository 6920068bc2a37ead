// How kernels that read a row several times walk over their rows: in phases, of which each runs beside the others on rows that follow
// each other. So memory is read and written all the time, each tensor from its front to its end, and sums over a row and what is
// computed of them are waited for by nobody.
#pragma once
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

/// Asks for what lies 32 lines behind `p`: far enough that memory has answered when it is read. For kernels that read three tensors,
/// which is more than the CPU follows by itself.
RL_INLINE void fetch_behind(const void* p) { fetch(static_cast<const std::uint8_t*>(p) + 2048); }

/// A kernel has Number, State (zero at first), and for a row i first(state, i, j, n) and second(state, i, j, n) for each block of it;
/// after_first(state, i) between those.
template <class Kernel>
RL_INLINE void each_row_in_two_phases(Range rows, std::int64_t d, const Kernel& kernel) {
  using T = typename Kernel::Number;
  using State = typename Kernel::State;
  std::int64_t i = rows.begin;
  if (i >= rows.end) return;
  State one{};
  each_block<T>(d, [&](std::int64_t j, int n) __attribute__((always_inline)) { kernel.first(one, i, j, n); });
  kernel.after_first(one, i);
  for (; i + 1 < rows.end; i++) {
    State next{};
    each_block<T>(d, [&](std::int64_t j, int n) __attribute__((always_inline)) {
      kernel.second(one, i, j, n);
      kernel.first(next, i + 1, j, n);
    });
    kernel.after_first(next, i + 1);
    one = next;
  }
  each_block<T>(d, [&](std::int64_t j, int n) __attribute__((always_inline)) { kernel.second(one, i, j, n); });
}

/// A kernel has Number, kPhases (2 or 3), State (zero at first), and for a row i first(state, i, j, n), second(state, i, j, n) and, of
/// three, third(state, i, j, n) for each block of it; after_first(state, i), and after_second(state, i) of three, between those.
template <class Kernel>
RL_INLINE void each_row_in_three_phases(Range rows, std::int64_t d, const Kernel& kernel) {
  using T = typename Kernel::Number;
  constexpr bool kHasThird = Kernel::kPhases == 3;
  typename Kernel::State one{}, two{}, three{};  // of the rows that are in the first, second, third phase
  const auto first = [&](std::int64_t i, std::int64_t j, int n) __attribute__((always_inline)) { kernel.first(one, i, j, n); };
  const auto second = [&](std::int64_t i, std::int64_t j, int n) __attribute__((always_inline)) { kernel.second(two, i - 1, j, n); };
  const auto third = [&](std::int64_t i, std::int64_t j, int n) __attribute__((always_inline)) {
    if constexpr (kHasThird) kernel.third(three, i - 2, j, n);
  };
  const auto pass = [&](std::int64_t i, const auto& phase) __attribute__((always_inline)) {
    each_block<T>(d, [&](std::int64_t j, int n) __attribute__((always_inline)) { phase(i, j, n); });
  };
  if (rows.begin >= rows.end) return;
  for (std::int64_t i = rows.begin; i < rows.end + Kernel::kPhases - 1; i++) {
    const bool has_first = i < rows.end;
    const bool has_second = i > rows.begin && i - 1 < rows.end;
    const bool has_third = kHasThird && i - 1 > rows.begin;
    if (has_first && has_second && has_third == kHasThird) {
      each_block<T>(d, [&](std::int64_t j, int n) __attribute__((always_inline)) {
        third(i, j, n);
        second(i, j, n);
        first(i, j, n);
      });
    } else {
      if (has_third) pass(i, third);
      if (has_second) pass(i, second);
      if (has_first) pass(i, first);
    }
    if constexpr (kHasThird) {
      if (has_second) kernel.after_second(two, i - 1);
      three = two;
    }
    if (has_first) kernel.after_first(one, i);
    two = one;
    one = typename Kernel::State{};
  }
}

}  // namespace raylite::RL_ISA

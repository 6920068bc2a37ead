// What a norm sees of its rows: x, or its sum with the residual where there is one.
#pragma once
#include "cpu/row_phases.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kRowsUnderWay = 2;

template <class T, class A>
struct SeenRows {
  static constexpr int kParts = kPartsOf<T>;
  const A a;
  T* kept;  // [kRowsUnderWay, kKeptWidth]: sums that go around the caches, for those who read them again
  const Writer<T> sum{a.sum, a.n, a.d, a.sum == nullptr || a.sum == a.x || a.d > kKeptWidth};

  /// The block at j of row i, seen for the first time.
  RL_MEMBER Block<kParts> see(std::int64_t i, std::int64_t j, int n) const {
    const std::int64_t at = i * a.d + j;
    const Block<kParts> x = load_block<kParts>(a.x + at, n);
    if (a.r == nullptr) return x;
    // What the norm sees is what the tensor holds.
    const Rounded<T> held = round_block<T>(x + load_block<kParts>(a.r + at, n), sum.rounds);
    sum.put(a.sum + at, held, n);
    if (sum.around) store_rounded(kept + (i & 1) * kKeptWidth + j, held, n);
    return widen_block<T>(held);
  }

  RL_MEMBER const T* row_again(std::int64_t i) const {
    if (a.r == nullptr) return a.x + i * a.d;
    return sum.around ? kept + (i & 1) * kKeptWidth : a.sum + i * a.d;
  }
};

}  // namespace raylite::RL_ISA

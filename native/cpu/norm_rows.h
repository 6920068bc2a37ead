// How norms walk over their rows: in pairs, so that two sums are under way at a time and what belongs to the columns is read once for
// both; and what they see of a row, with and without a residual.
#pragma once
#include "cpu/split.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

/// f.template operator()<kRows>(i) for rows i..i+kRows-1: pairs, and a last row by itself.
template <class F>
RL_INLINE void each_pair(Range rows, const F& f) {
  std::int64_t i = rows.begin;
  for (; i + 2 <= rows.end; i += 2) f.template operator()<2>(i);
  if (i < rows.end) f.template operator()<1>(i);
}

/// Whether the sums of a norm's input and its residual, a.sum [n, d], go around the caches; they are kept for the norm then.
template <class A>
RL_INLINE bool sum_goes_around(const A& a) {
  return a.d <= kKeptWidth && goes_around(a.sum, a.n, a.d, a.sum == nullptr || a.sum == a.x);
}

/// Calls see(row, value) for the vectors of rows i..i+kRows-1 of x, or of its sum with the residual where there is one, and asks for
/// the rows behind them. Returns where they can be read again; sums that go `around` the caches are `kept` [kRows * kKeptWidth].
template <int kRows, class A, class T, class F>
RL_INLINE const T* see_rows(const A& a, std::int64_t i, bool around, T* kept, F see) {
  const std::int64_t d = a.d;
  const T* x = a.x + i * d;
  if (a.r == nullptr) {
    each_vector(d, [&](std::int64_t j, int n) {
      for (int row = 0; row < kRows; row++) {
        fetch_row(x + (kRows + row) * d + j);
        see(row, load_n(x + row * d + j, n));
      }
    });
    return x;
  }
  T* sum = around ? kept : a.sum + i * d;
  each_vector(d, [&](std::int64_t j, int n) {
    for (int row = 0; row < kRows; row++) {
      const std::int64_t at = row * d + j;
      fetch_row(x + kRows * d + at);
      // What the norm sees is what the tensor holds.
      const Floats value = rounded_to<T>(load_n(x + at, n) + load_n(a.r + i * d + at, n));
      store_n(sum + at, value, n);
      if (around) store_around(a.sum + i * d + at, value, n, true);
      see(row, value);
    }
  });
  return sum;
}

}  // namespace raylite::RL_ISA

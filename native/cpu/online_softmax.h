// Softmax over keys that come in blocks: a row's sums so far shrink when a larger score turns up (arXiv:2205.14135, Algorithm 1).
// Attention over packed rows and over a cache share it, and with it every rounding. Scores are products of queries and
// keys times `factor` = scale log2 e, so that exponentials are powers of 2.
#pragma once
#include "cpu/math.h"
#include "cpu/pack.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kKeys = 64;  // of a block
constexpr float kHidden = -1e30f;   // a score whose power is 0 beside any visible one
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;

RL_INLINE bool any_above(Floats x, float limit) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(x, broadcast(limit), _CMP_GT_OQ) != 0;
#else
  return max_lanes(x) > limit;
#endif
}

/// x where begin <= j + lane < end, kHidden elsewhere.
RL_INLINE Floats hidden_outside(Floats x, std::int64_t j, std::int64_t begin, std::int64_t end) {
  Ints at{};
  for (int i = 0; i < kLanes; i++) at[i] = i;
  at += static_cast<std::int32_t>(j);
  return select((at >= static_cast<std::int32_t>(begin)) & (at < static_cast<std::int32_t>(end)), x, broadcast(kHidden));
}

/// What one row of queries has seen so far.
struct RowSums {
  float top;
  Floats total;  // of the powers under `top`, by lanes
  void clear() {
    top = 3 * kHidden;
    total = Floats{};
  }
  float sum() const { return sum_lanes(total); }
};

RL_INLINE void store_powers(float* to, Floats x) { store(to, x); }
#if defined(__AVX512F__)
/// Rounded to nearest even by the CPU's instruction. As assembly: see add_words.
RL_INLINE __m256i to_halves(Floats x) {
  __m256i halves;
  asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(x));
  return halves;
}
RL_INLINE void store_powers(BFloat16* to, Floats x) { store_halves(to, to_halves(x)); }
#endif

/// Columns [from, to) of one row of products, of which [begin, end) are visible, become powers under the row's running
/// maximum in `powers`; the row and its `sums` of values, [padded], shrink to a new one. from and to are whole vectors.
template <class Power>
RL_INLINE void soften_row(float* products, std::int64_t from, std::int64_t to, std::int64_t begin, std::int64_t end,
                          float factor, RowSums& row, float* sums, std::int64_t padded, Power* powers) {
  if (begin >= end) {
    for (std::int64_t j = from; j < to; j += kLanes) store_powers(powers + j, Floats{});
    return;
  }
  Floats most = broadcast(kHidden);
  for (std::int64_t j = from; j < to; j += kLanes) {
    Floats x = load(products + j) * factor;
    if (j < begin || j + kLanes > end) x = hidden_outside(x, j, begin, end);
    store(products + j, x);
    most = larger(x, most);
  }
  if (any_above(most, row.top)) {
    const float top = max_lanes(most);
    const Floats shrink = exp2_of(larger(broadcast(row.top - top), broadcast(-1000.0f)));
    row.total *= shrink;
    for (std::int64_t j = 0; j < padded; j += kLanes) store(sums + j, load(sums + j) * shrink);
    row.top = top;
  }
  for (std::int64_t j = from; j < to; j += kLanes) {
    const Floats power = exp2_of(load(products + j) - row.top);
    store_powers(powers + j, power);
    row.total += power;
  }
}

}  // namespace raylite::RL_ISA

// What happens to finished rows of a product while they are in the cache: bias, activation, addend, and rounding to C.
#pragma once
#include "cpu/gemm.h"
#include "cpu/math.h"

namespace raylite::RL_ISA {

namespace {  // a template's members would be weak symbols

/// The block of C at (row, column), whose sums lie at `sums` with rows `stride` apart (C itself if it holds floats).
template <class T, class C>
struct Finish {
  const Gemm<T, C>& g;
  const float* sums;
  std::int64_t stride, row, column, rows, columns;
  template <Activation kKind>
  void operator()() const {
    for (std::int64_t i = 0; i < rows; i++) {
      const std::int64_t at = (row + i) * g.ldc + column;
      each_vector(columns, [&](std::int64_t j, int n) {
        Floats x = load_n(sums + i * stride + j, n);
        if (g.bias != nullptr) x += load_n(g.bias + column + j, n);
        // An activation is of what a tensor would hold: so it can be taken again from `pre`, and fusing it changes no bit.
        if constexpr (kKind != Activation::kNone) x = rounded_to<T>(x);
        if (g.pre != nullptr) store_n(g.pre + at + j, x, n);
        x = activate<kKind>(x);
        if (g.addend != nullptr) x += load_n(g.addend + at + j, n);
        store_n(g.c + at + j, x, n);
      });
    }
  }
};

}  // namespace

/// Whether sums have to be finished at all.
template <class T, class C>
RL_INLINE bool needs_finish(const Gemm<T, C>& g) {
  return !std::is_same_v<C, float> || g.bias != nullptr || g.pre != nullptr || g.addend != nullptr ||
         g.activation != Activation::kNone;
}

}  // namespace raylite::RL_ISA

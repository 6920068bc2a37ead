// Products with few rows (decoding): every weight is used too few times to pay for packing it, so B is streamed once, where
// it lies. Each element of C is summed in the order of gemm(): a row gives the same bits alone and among a thousand.
#pragma once
#include "cpu/gemm.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kThinRows = 16;

/// Thin products read rows of A front to back.
template <class T, class C>
RL_INLINE bool is_thin(const Gemm<T, C>& g) {
  return g.m <= kThinRows && g.a_col == 1;
}

/// As gemm(), for thin products.
void thin_product(const Gemm<float, float>& g, const Team& team);
void thin_product(const Gemm<BFloat16, BFloat16>& g, const Team& team);
void thin_product(const Gemm<BFloat16, float>& g, const Team& team);
void thin_product(const Gemm<Float16, Float16>& g, const Team& team);
void thin_product(const Gemm<Float16, float>& g, const Team& team);

}  // namespace raylite::RL_ISA

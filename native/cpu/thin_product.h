// Products with few rows (decoding): every weight is used too few times to pay for packing it, so B is streamed once, where
// it lies. Each element of C is summed in the order of gemm(): a row gives the same bits alone and among a thousand.
#pragma once
#include "cpu/gemm.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kThinRows = 16;
constexpr std::int64_t kThinColumns = 256;

/// Thin products read rows of A front to back.
RL_INLINE bool is_thin(const Gemm& g) { return g.m <= kThinRows && g.a_col == 1; }

/// Columns [begin, begin + count) of C, without bias, activation and addend. count <= kThinColumns.
void thin_product(const Gemm& g, std::int64_t begin, std::int64_t count);

}  // namespace raylite::RL_ISA

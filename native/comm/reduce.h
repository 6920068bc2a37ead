// Sums and maxima over ranks, always in the order of the ranks, so that every rank gets the same bits.
#pragma once
#include <cstddef>

#include "comm/communicator.h"

namespace raylite {

/// out[i] = ((in[0][i] + in[1][i]) + in[2][i]) + … (or the maximum; a NaN wins), all arrays of `number`, 16-bit ones rounded
/// at the end alone. `out` may be one of the inputs, not overlap one.
void reduce_in_order(void* out, const void* const* in, int inputs, std::size_t count, Number number, ReduceOp op);

/// total[i] = ((head[i] + in[0][i]) + in[1][i]) + …, not rounded; without a head (null) in[0] is first.
void reduce_onward(float* total, const float* head, const void* const* in, int inputs, std::size_t count, Number number,
                   ReduceOp op);

/// Floats as `number`, to nearest.
void round_to(void* out, const float* in, std::size_t count, Number number);

}  // namespace raylite

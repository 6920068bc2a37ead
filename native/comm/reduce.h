// Sums and maxima over ranks, always in the order of the ranks, so that every rank gets the same bits.
#pragma once
#include <cstddef>

#include "comm/communicator.h"

namespace raylite {

/// out[i] = ((in[0][i] + in[1][i]) + in[2][i]) + … (or the maximum; a NaN wins), all arrays of `number`, 16-bit ones rounded
/// at the end alone. `out` may be one of the inputs, not overlap one.
void reduce_in_order(void* out, const void* const* in, int inputs, std::size_t count, Number number, ReduceOp op);

}  // namespace raylite

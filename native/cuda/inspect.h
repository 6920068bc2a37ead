// What streams that are watched do between instructions.
#pragma once
#include <cuda_runtime.h>

#include "core/program.h"

namespace raylite::cuda {

/// Where a stream is, for who looks on from the host: in memory that both see.
struct Mark {
  std::uint32_t place;
  std::uint32_t count;  // of marks made
};

/// Sets the place when the stream gets there.
void put_mark(cudaStream_t stream, Mark* mark, std::uint32_t place);
/// Keeps the stream busy for up to 200 µs, drawn from the seed and the instruction.
void delay(cudaStream_t stream, std::uint32_t seed, std::uint32_t instruction);
/// Waits for the stream, and notes the first number of an output that is not finite.
void look_for_not_finite(cudaStream_t stream, const Instruction& instruction, std::size_t index, Finding& finding);

}  // namespace raylite::cuda

// What runs that are watched do between instructions.
#pragma once
#include <cuda_runtime.h>

#include "core/program.h"

namespace raylite::cuda {

/// Keeps the stream busy for up to 200 µs, drawn from the seed and the instruction.
void delay(cudaStream_t stream, std::uint32_t seed, std::uint32_t instruction);
/// Waits for the stream; throws EngineError at the first number of an output that is not finite.
void expect_finite(cudaStream_t stream, const Instruction& instruction, std::size_t index);

}  // namespace raylite::cuda

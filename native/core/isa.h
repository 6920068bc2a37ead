// Which instruction sets this build has kernels for and this CPU can run.
#pragma once
#include <string>

#include "core/kernels.h"

namespace raylite {

/// "avx512", "avx2" or "scalar": the best that runs here.
std::string best_isa();
/// The kernels of an instruction set. Throws EngineError("ENGINE") when this CPU or build lacks it.
const Kernels& kernels_of(const std::string& isa);

/// As `measure_peak` of the kernels, of bf16: by dot products of pairs where the CPU has them.
double measure_pair_peak(const std::string& isa, double seconds);

}  // namespace raylite

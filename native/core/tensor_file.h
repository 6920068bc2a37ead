// Tensors of a file straight into memory, converted on the way.
#pragma once
#include <cstdint>
#include <vector>

#include "core/kernels.h"

namespace raylite {

/// `count` numbers of type `from`, at byte `offset` of the file, as numbers of type `to` at `destination`.
struct TensorRead {
  std::uint64_t offset;
  std::uint64_t count;
  DType from;
  DType to;
  std::uint8_t* destination;
};

std::size_t bytes_of(DType dtype);

/// Reads with pread, not through a mapping: a file that someone cuts off meanwhile is an EngineError("ENGINE") that names the
/// byte, where a mapping would end the process with SIGBUS. Pages of the file stay the system's; beside the destination this
/// holds 1 MiB per thread, and nothing where the types are equal.
void read_tensors(int fd, const std::vector<TensorRead>& reads, const Kernels& kernels, int threads);

}  // namespace raylite

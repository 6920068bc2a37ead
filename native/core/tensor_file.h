// Tensors of a file straight into memory, converted on the way.
#pragma once
#include <cstdint>
#include <vector>

#include "core/device.h"

namespace raylite {

/// `count` numbers of type `from`, at byte `offset` of the file, as numbers of type `to` at byte `to_offset` of a memory.
struct TensorRead {
  std::uint64_t offset;
  std::uint64_t count;
  DType from;
  DType to;
  Memory* to_memory;
  std::uint64_t to_offset;
};

std::size_t bytes_of(DType dtype);

/// Reads with pread, not through a mapping: a file that someone cuts off meanwhile is an EngineError("ENGINE") that names the
/// byte, where a mapping would end the process with SIGBUS. Pages of the file stay the system's; beside the destination this
/// holds 1 MiB per thread, and nothing where the types are equal; 2 MiB more where the memory is not the host's.
void read_tensors(int fd, const std::vector<TensorRead>& reads, Device& device);

}  // namespace raylite

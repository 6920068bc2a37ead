// The plan's bytes as typed rows (ARCHITECTURE.md, "Plan format"). Decoding checks every count, offset and range, and
// that the streams cannot wait for each other for ever; it knows no ops and touches no tensor memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/storage.h"

namespace raylite {

const char* dtype_name(DType dtype);

inline std::size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kU8:
      return 1;
    case DType::kBF16:
    case DType::kF16:
      return 2;
  }
  return 0;
}

/// What runs beside each other: kernels, exchanges between ranks, copies between device and host, disk, kernels on memory of the host.
enum class Stream : std::uint32_t { kCompute = 0, kCommunication = 1, kCopy = 2, kDisk = 3, kHost = 4 };
constexpr std::uint32_t kStreams = 5;

struct PlanBuffer {
  std::uint64_t bytes = 0;
  std::string name;
};

struct PlanTensor {
  std::uint32_t buffer = 0;
  DType dtype = DType::kF32;
  std::uint32_t rank = 0;
  std::uint64_t offset_bytes = 0;
  std::int64_t dims[4] = {1, 1, 1, 1};  // dims[rank..] are 1
  std::int64_t elements = 1;
  std::uint64_t bytes = 0;
};

struct PlanInstruction {
  std::string op;
  std::string path;
  Stream stream = Stream::kCompute;
  std::vector<std::uint32_t> inputs;
  std::vector<std::uint32_t> outputs;
  std::vector<std::uint32_t> waits;
  std::vector<double> attributes;
};

struct Plan {
  std::vector<PlanBuffer> buffers;
  std::vector<PlanTensor> tensors;
  std::vector<PlanInstruction> instructions;
};

/// Decodes `size` bytes. `is_host`: the device is the host itself, whose kernels make what is on the stream kHost in the order of the plan.
/// Throws EngineError("PLAN") naming the row at fault; never reads outside of the bytes.
Plan decode_plan(const std::uint8_t* bytes, std::size_t size, bool is_host);

}  // namespace raylite

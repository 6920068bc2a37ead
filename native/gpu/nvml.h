// What the management library of NVIDIA's driver (NVML) says of the GPUs of a machine. Opened at run time; its interface is declared
// here, as its manual has it, since a machine that builds this has no header of it.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace raylite {

class NvmlError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One GPU. What the driver does not tell is -1.
struct GpuState {
  std::string uuid;  // "GPU-…", as in CUDA_VISIBLE_DEVICES
  std::string name;
  std::uint64_t memory_bytes = 0, used_bytes = 0;
  int busy_percent = -1;
  int celsius = -1;
  std::int64_t ecc_errors = -1;  // that could not be corrected, since the driver was loaded
  std::uint64_t last_xid = 0;    // of a critical error since this was opened; 0: none
};

class Nvml {
 public:
  /// Throws NvmlError where there is no such library, or no driver behind it.
  explicit Nvml(const std::string& path);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  /// All GPUs, in the order of their places on the bus.
  std::vector<GpuState> look();

 private:
  struct Functions;
  using Device = struct nvmlDevice_st*;
  void take_events();

  const std::unique_ptr<Functions> functions_;
  struct nvmlEventSet_st* events_ = nullptr;
  std::vector<Device> devices_;
  std::vector<std::uint64_t> xids_;
};

}  // namespace raylite

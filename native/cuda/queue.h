// Where the kernels of an instruction put their work: a stream of a device, and what it needs beside.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/team.h"

namespace raylite::cuda {
class Context;
class Faults;
class HostCalls;
class NcclGroup;
class SegmentLook;

/// What a kernel reports a forbidden value by: the lowest (slot, row) of a run wins.
struct Fault {
  unsigned long long* worst;
  unsigned long long slot;
};

constexpr int kFaultRowBits = 40;
}  // namespace raylite::cuda

namespace raylite {

class Queue {
 public:
  cudaStream_t stream;
  cuda::Context* context;
  cuda::Faults* faults;
  cuda::HostCalls* calls;  // of groups that are not among the next
  const std::vector<std::shared_ptr<cuda::NcclGroup>>* groups;
  std::size_t instruction;  // that is being put there
  cuda::SegmentLook* segments = nullptr;  // of this run
  bool is_choosing = false;  // nothing is put there yet: who makes it is chosen, where there is a choice
};

}  // namespace raylite

namespace raylite::cuda {

/// Which values of a run must lie in a range, in the order of their use; the device keeps the worst of them.
class Faults {
 public:
  struct Entry {
    std::size_t instruction;
    const char* what;
    const std::int32_t* values;
    std::int64_t low, high;
    const std::int32_t* ends = nullptr;  // of segments whose starts are `values`, `high` of them
  };
  explicit Faults(unsigned long long* worst) : worst_(worst) {}

  /// For a kernel that checks values[row] for low <= value < high.
  Fault expect(const Queue& queue, const char* what, const std::int32_t* values, std::int64_t low, std::int64_t high) {
    return add({queue.instruction, what, values, low, high});
  }
  /// For a kernel that checks that segments tile n rows.
  Fault expect_segments(const Queue& queue, const std::int32_t* starts, const std::int32_t* ends, std::int64_t n) {
    return add({queue.instruction, "starts", starts, 0, n, ends});
  }
  void clear() { entries_.clear(); }
  unsigned long long* worst() const { return worst_; }
  const Entry& entry(unsigned long long worst) const { return entries_[worst >> kFaultRowBits]; }

 private:
  Fault add(const Entry& entry) {
    entries_.push_back(entry);
    return {worst_, entries_.size() - 1};
  }

  unsigned long long* const worst_;
  std::vector<Entry> entries_;
};

}  // namespace raylite::cuda

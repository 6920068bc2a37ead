// What the host knows of the segments of a run before it begins.
#pragma once
#include <cstdint>
#include <vector>

#include "core/cuda_api.h"
#include "core/ops/attention.h"
#include "cuda/context.h"

namespace raylite::cuda {

/// As many segments of as many rows each. No rows: the host does not know, or they are not all alike.
struct EqualSegments {
  std::int64_t count = 0, rows = 0;
};

class SegmentLook {
 public:
  SegmentLook(Context& context, const Program& program) : context_(context), program_(program) {}
  /// Looks again at all masks that were asked for. `run` must outlive what follows.
  void begin(const CudaRun& run);
  /// Says of all masks that nothing is known of them, until the next run.
  void forget() { rows_.assign(rows_.size(), 0); }
  EqualSegments of(const AttentionMask& mask, std::int64_t n);
  /// Rows of the segments of each mask, in the order in which they were first asked for: what choices of a run depend on.
  const std::vector<std::int64_t>& rows() const { return rows_; }

 private:
  struct Mask {
    const std::int32_t* starts;
    const std::int32_t* ends;
    std::int64_t n;
    bool is_written;  // by the program itself
  };
  std::int64_t rows_of(const Mask& mask);
  bool is_written(const std::int32_t* numbers, std::int64_t n) const;
  /// `n` numbers of the device as the run will find them, in `read` where the host has no copy.
  const std::int32_t* on_host(const std::int32_t* numbers, std::int64_t n, std::vector<std::int32_t>& read);

  Context& context_;
  const Program& program_;
  const CudaRun* run_ = nullptr;
  std::vector<std::int32_t> starts_, ends_;
  std::vector<Mask> masks_;
  std::vector<std::int64_t> rows_;  // of the segments of each
};

}  // namespace raylite::cuda

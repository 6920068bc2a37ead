// A look at the segments of a run on the host.
#include "cuda/segments.h"

namespace raylite::cuda {

void SegmentLook::begin(const CudaRun& run) {
  run_ = &run;
  for (std::size_t i = 0; i < masks_.size(); i++) rows_[i] = rows_of(masks_[i]);
}

EqualSegments SegmentLook::of(const AttentionMask& mask, std::int64_t n) {
  std::size_t at = 0;
  while (at < masks_.size() && !(masks_[at].starts == mask.starts && masks_[at].ends == mask.ends && masks_[at].n == n)) at++;
  if (at == masks_.size()) {
    masks_.push_back({mask.starts, mask.ends, n, is_written(mask.starts, n) || is_written(mask.ends, n)});
    rows_.push_back(rows_of(masks_.back()));
  }
  return rows_[at] == 0 ? EqualSegments{} : EqualSegments{n / rows_[at], rows_[at]};
}

std::int64_t SegmentLook::rows_of(const Mask& mask) {
  if (mask.is_written) return 0;
  const std::int32_t* starts = on_host(mask.starts, mask.n, starts_);
  const std::int32_t* ends = on_host(mask.ends, mask.n, ends_);
  const std::int64_t rows = ends[0];
  if (rows < 1 || mask.n % rows != 0) return 0;
  for (std::int64_t begin = 0; begin < mask.n; begin += rows) {
    for (std::int64_t i = begin; i < begin + rows; i++) {
      if (starts[i] != begin || ends[i] != begin + rows) return 0;
    }
  }
  return rows;
}

bool SegmentLook::is_written(const std::int32_t* numbers, std::int64_t n) const {
  const auto* first = reinterpret_cast<const std::uint8_t*>(numbers);
  const auto* last = reinterpret_cast<const std::uint8_t*>(numbers + n);
  for (const Instruction& instruction : program_.instructions) {
    for (const Output& output : instruction.outputs) {
      if (output.data < last && first < output.data + static_cast<std::size_t>(output.elements) * dtype_bytes(output.dtype)) return true;
    }
  }
  return false;
}

const std::int32_t* SegmentLook::on_host(const std::int32_t* numbers, std::int64_t n, std::vector<std::int32_t>& read) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(numbers);
  const auto* last = reinterpret_cast<const std::uint8_t*>(numbers + n);
  for (std::size_t i = 0; i < run_->mirror_count; i++) {
    const CudaMirror& mirror = run_->mirrors[i];
    const auto* begin = static_cast<const std::uint8_t*>(mirror.device);
    if (first < begin || last > begin + mirror.bytes) continue;
    return reinterpret_cast<const std::int32_t*>(static_cast<const std::uint8_t*>(mirror.host) + (first - begin));
  }
  read.resize(static_cast<std::size_t>(n));
  context_.copy(read.data(), numbers, read.size() * sizeof(std::int32_t));
  return read.data();
}

}  // namespace raylite::cuda

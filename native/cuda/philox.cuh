// Philox4x32-10 and the masks of dropout: the numbers of native/cpu/philox.h, counter by counter.
#pragma once
#include "cuda/launch.cuh"

namespace raylite::cuda {

struct Words4 {
  std::uint32_t at[4];
};

/// Ten rounds on a counter of four words.
__device__ inline Words4 philox(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3, std::uint32_t key0, std::uint32_t key1) {
  RL_UNROLL
  for (int round = 0; round < 10; round++) {
    const std::uint32_t high0 = __umulhi(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
    const std::uint32_t high1 = __umulhi(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

constexpr int kMaskColumns = 128;

/// Each element is kept with probability 1 - threshold / 65536.
struct Masks {
  const std::int32_t* random;  // seed (low word, high word), step, first row; null: everything is kept
  std::uint32_t threshold;
  std::uint32_t stream;
};

inline std::uint32_t mask_threshold(double probability) {
  const auto threshold = static_cast<std::int64_t>(probability * 65536 + 0.5);
  return static_cast<std::uint32_t>(threshold < 65535 ? threshold : 65535);
}
inline float mask_scale(std::uint32_t threshold) { return 65536.0f / (65536.0f - static_cast<float>(threshold)); }

/// The words that decide columns 16 v + lane, v < 8, of a block of 128: column 16 v + lane is half v % 2 of word v / 2.
__device__ inline Words4 mask_words(const Masks& masks, std::uint32_t row, std::uint32_t block, std::uint32_t lane) {
  const std::int32_t* r = masks.random;
  return philox(16 * block + lane, static_cast<std::uint32_t>(r[3]) + row, masks.stream, static_cast<std::uint32_t>(r[2]),
                static_cast<std::uint32_t>(r[0]), static_cast<std::uint32_t>(r[1]));
}

__device__ inline bool keeps(const Masks& masks, const Words4& words, int v) {
  const std::uint32_t word = words.at[v / 2];
  return (v % 2 == 0 ? word & 0xffffu : word >> 16) >= masks.threshold;
}

/// Whether column `column` of row `row` is kept.
__device__ inline bool is_kept(const Masks& masks, std::uint32_t row, std::int64_t column) {
  const auto inside = static_cast<std::uint32_t>(column % kMaskColumns);
  return keeps(masks, mask_words(masks, row, static_cast<std::uint32_t>(column / kMaskColumns), inside % 16), static_cast<int>(inside / 16));
}

}  // namespace raylite::cuda

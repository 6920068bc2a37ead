// In which order the sums of a product run, and the sizes of its blocks. Depth is counted in words of packed panels: a float
// each, or a pair of bf16.
#pragma once
#include "cpu/gemm_tile.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kSliceMax = 384;
constexpr std::int64_t kDepthMax = 11 * kSliceMax;

RL_INLINE std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

/// The size of equal parts of `whole`, each at most `most`, rounded up to a multiple of `grain`.
RL_INLINE std::int64_t even(std::int64_t whole, std::int64_t most, std::int64_t grain) {
  const std::int64_t parts = (whole + most - 1) / most;
  return round_up((whole + parts - 1) / parts, grain);
}

/// Every element of C is a sum over slices of `slice` words of depth, each summed in order from 0 and added to the last;
/// slices end at multiples of `block` too.
struct Depths {
  std::int64_t block, slice;
};

/// Sums that cannot be added up in C, because it holds 16-bit numbers, are never cut into blocks.
RL_INLINE Depths cut_depth(std::int64_t words, bool is_narrow) {
  const std::int64_t block = is_narrow ? round_up(words, 16) : even(words, kDepthMax, 16);
  return {block, even(block, kSliceMax, 16)};
}

/// How many words hold this many elements.
template <class Word>
RL_INLINE std::int64_t words_of(std::int64_t elements) {
  return (elements + kNumbersOf<Word> - 1) / kNumbersOf<Word>;
}

}  // namespace raylite::RL_ISA

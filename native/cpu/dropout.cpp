// dropout: rows split among threads; a block of 128 columns takes its mask from one call of the generator per 16 counters.
#include "cpu/kernels.h"
#include "cpu/philox.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

/// The bits of `keep` from bit `at` on, as many as a vector has lanes.
RL_INLINE std::uint64_t bits_from(const std::uint64_t keep[2], std::int64_t at) {
  const std::int64_t shift = at % 64;
  const std::uint64_t low = keep[at / 64] >> shift;
  return at < 64 && shift != 0 ? low | keep[1] << (64 - shift) : low;
}

template <class T>
static void dropout_of(const DropoutArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const Masks masks = masks_of(a.random, a.probability);
  const Floats scale = broadcast(mask_scale(masks));
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const auto row = static_cast<std::uint32_t>(a.first_row + i);
    for (std::int64_t first = 0, length; first < a.d; first += length) {
      const std::int64_t column = a.first_column + first;
      const std::int64_t begin = column % kMaskColumns;
      length = min_of(kMaskColumns - begin, a.d - first);
      std::uint64_t keep[2];
      mask_bits(masks, row, a.stream, static_cast<std::uint32_t>(column / kMaskColumns), keep);
      const T* x = a.x + i * a.d + first;
      T* y = a.y + i * a.d + first;
      each_vector(length, [&](std::int64_t j, int n) {
        store_n(y + j, keep_lanes(load_n(x + j, n) * scale, bits_from(keep, begin + j)), n);
      });
    }
  }
}

RL_DEFINE(dropout, DropoutArguments)

}  // namespace raylite::RL_ISA

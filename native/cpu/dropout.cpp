// dropout: rows split among threads; a block of 128 columns takes its mask from one call of the generator per 16 counters.
#include "cpu/kernels.h"
#include "cpu/philox.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

template <class T>
static void dropout_of(const DropoutArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const Masks masks = masks_of(a.random, a.probability);
  const Floats scale = broadcast(mask_scale(masks));
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    for (std::int64_t first = 0; first < a.d; first += kMaskColumns) {
      std::uint64_t keep[2];
      mask_bits(masks, static_cast<std::uint32_t>(i), a.stream, static_cast<std::uint32_t>(first / kMaskColumns), keep);
      const T* x = a.x + i * a.d + first;
      T* y = a.y + i * a.d + first;
      each_vector(min_of(kMaskColumns, a.d - first), [&](std::int64_t j, int n) {
        store_n(y + j, keep_lanes(load_n(x + j, n) * scale, keep[j / 64] >> (j % 64)), n);
      });
    }
  }
}

RL_DEFINE(dropout, DropoutArguments)

}  // namespace raylite::RL_ISA

// rotary, rows split among threads.
#include "cpu/kernels.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void rotary_of(const RotaryArguments<T>& a, const Team& team) {
  constexpr int kParts = kPartsOf<T>;
  const bool rounds = has_rounding();
  const Range rows = share_rows(team, a.n, a.w);
  const std::int64_t half = a.rotary_dim / 2;
  const float sign = a.inverse ? -1.0f : 1.0f;
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const std::int64_t position = a.positions[i];
    if (position < 0 || position >= a.p) {
      team.fail_value("positions", i, position, 0, a.p);
      continue;
    }
    const T* x = a.x + i * a.w;
    T* y = a.y + i * a.w;
    if (x != y) __builtin_memcpy(y, x, static_cast<std::size_t>(a.w) * sizeof(T));
    const float* cos = a.cos + position * half;
    const float* sin = a.sin + position * half;
    for (std::int64_t head = 0; head < a.heads; head++) {
      T* first = y + a.offset + head * a.head_stride;
      if (a.interleaved) {
        for (std::int64_t j = 0; j < half; j++) {
          const float p = load_one(first + 2 * j), q = load_one(first + 2 * j + 1), s = sin[j] * sign;
          store_one(first + 2 * j, p * cos[j] - q * s);
          store_one(first + 2 * j + 1, q * cos[j] + p * s);
        }
        continue;
      }
      T* second = first + half;
      each_block<T>(half, [&](std::int64_t j, int n) {
        const Block<kParts> p = load_block<kParts>(first + j, n);
        const Block<kParts> q = load_block<kParts>(second + j, n);
        const Block<kParts> c = load_block<kParts>(cos + j, n);
        const Block<kParts> s = load_block<kParts>(sin + j, n) * sign;
        store_rounded(first + j, round_block<T>(p * c - q * s, rounds), n);
        store_rounded(second + j, round_block<T>(q * c + p * s, rounds), n);
      });
    }
  }
}

RL_DEFINE(rotary, RotaryArguments)

}  // namespace raylite::RL_ISA

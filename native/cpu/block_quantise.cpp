// block_quantise and block_dequantise: a thread takes whole blocks. Compiled without contraction of a * b + c, so that every
// instruction set rounds as the reference does.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

typedef std::int8_t Bytes __attribute__((vector_size(kLanes)));

constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: a small number added to it is rounded to an integer, in its lowest bits

/// Writes the integers of n <= kLanes numbers, n even.
RL_INLINE void put(std::uint8_t* q, Floats x, int n, int bits_each) {
  const Bytes lanes = __builtin_convertvector(bits(x + kRounder), Bytes);
  if (bits_each == 8) {
    __builtin_memcpy(q, &lanes, static_cast<std::size_t>(n));
    return;
  }
  for (int i = 0; i < n / 2; i++) q[i] = static_cast<std::uint8_t>((lanes[2 * i] & 15) | (lanes[2 * i + 1] << 4));
}

RL_INLINE Floats get(const std::uint8_t* q, int n, int bits_each) {
  Bytes lanes{};
  if (bits_each == 8) {
    __builtin_memcpy(&lanes, q, static_cast<std::size_t>(n));
  } else {
    for (int i = 0; i < n / 2; i++) {
      lanes[2 * i] = static_cast<std::int8_t>(static_cast<std::int8_t>(q[i] << 4) >> 4);
      lanes[2 * i + 1] = static_cast<std::int8_t>(static_cast<std::int8_t>(q[i]) >> 4);
    }
  }
  return __builtin_convertvector(lanes, Floats);
}

template <class T>
RL_INLINE float largest_of(const T* x, std::int64_t count) {
  Ints most = bits(Floats{});  // magnitudes compare as integers, and a NaN is larger than all
  each_vector(count, [&](std::int64_t i, int n) {
    const Ints magnitude = bits(absolute(load_n(x + i, n)));
    most = select_bits(magnitude > most, magnitude, most);
  });
  std::int32_t largest = 0;
  for (int i = 0; i < kLanes; i++) largest = most[i] > largest ? most[i] : largest;
  float value;
  __builtin_memcpy(&value, &largest, 4);
  return value;
}

template <class T>
static void block_quantise_of(const BlockQuantiseArguments<T>& a, const Team& team) {
  const std::int64_t blocks = (a.n + a.block - 1) / a.block;
  const std::int64_t payload = payload_bytes(a.n, a.bits, a.block);
  const std::int64_t rows = a.parts / a.columns;
  const Floats most = broadcast(static_cast<float>((1 << (a.bits - 1)) - 1));
  const Floats least = broadcast(-static_cast<float>(1 << (a.bits - 1)));
  const Range units = share_rows(team, a.parts * blocks, a.block);
  for (std::int64_t unit = units.begin; unit < units.end; unit++) {
    const std::int64_t part = unit / blocks, block = unit % blocks, start = block * a.block;
    const std::int64_t count = min_of(a.block, a.n - start);
    const T* x = a.x + part * a.n + start;
    std::uint8_t* y = a.y + ((part % a.columns) * rows + part / a.columns) * payload;
    const float largest = largest_of(x, count);
    const float factor = largest == 0.0f ? 1.0f : static_cast<float>(1 << a.bits) / (2.0f * largest);
    reinterpret_cast<float*>(y + a.n * a.bits / 8)[block] = 1.0f / factor;
    each_vector(count, [&](std::int64_t i, int n) {
      const Floats scaled = larger(load_n(x + i, n) * factor, least);  // the least for a NaN
      put(y + (start + i) * a.bits / 8, select(scaled > most, most, scaled), n, a.bits);
    });
  }
}

template <class T>
static void block_dequantise_of(const BlockDequantiseArguments<T>& a, const Team& team) {
  const std::int64_t blocks = (a.n + a.block - 1) / a.block;
  const std::int64_t payload = payload_bytes(a.n, a.bits, a.block);
  const std::int64_t results = a.parts / a.terms;
  const Range units = share_rows(team, results * blocks, a.block * a.terms);
  for (std::int64_t unit = units.begin; unit < units.end; unit++) {
    const std::int64_t part = unit / blocks, block = unit % blocks, start = block * a.block;
    each_vector(min_of(a.block, a.n - start), [&](std::int64_t i, int n) {
      Floats sum{};
      for (std::int64_t term = 0; term < a.terms; term++) {
        const std::uint8_t* x = a.x + (term * results + part) * payload;
        const float step = reinterpret_cast<const float*>(x + a.n * a.bits / 8)[block];
        const Floats value = get(x + (start + i) * a.bits / 8, n, a.bits) * step;
        sum = term == 0 ? value : sum + value;
      }
      store_n(a.y + part * a.n + start + i, sum, n);
    });
  }
}

RL_DEFINE(block_quantise, BlockQuantiseArguments)
RL_DEFINE(block_dequantise, BlockDequantiseArguments)

}  // namespace raylite::RL_ISA

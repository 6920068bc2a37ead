// Normal numbers from Philox counters by the inverse of their distribution. Compiled without contraction of products and sums
// (CMakeLists.txt): the same bits on every instruction set, so that ranks on unlike machines start from one model.
#include "cpu/kernels.h"
#include "cpu/philox.h"

namespace raylite::RL_ISA {

namespace {

/// Natural logarithm of x in (0, 1) (coefficients: Cephes logf).
RL_INLINE Floats log_below_one(Floats x) {
  const Ints raw = bits(x);
  Floats e = __builtin_convertvector((raw >> 23) - 126, Floats);
  const Floats m = floats((raw & 0x007fffff) | 0x3f000000);  // [0.5, 1)
  const Ints small = m < 0.707106781186547524f;
  e = select(small, e - 1.0f, e);
  const Floats t = select(small, m + m - 1.0f, m - 1.0f);
  const Floats z = t * t;
  Floats p = broadcast(7.0376836292e-2f);
  p = p * t - 1.1514610310e-1f;
  p = p * t + 1.1676998740e-1f;
  p = p * t - 1.2420140846e-1f;
  p = p * t + 1.4249322787e-1f;
  p = p * t - 1.6668057665e-1f;
  p = p * t + 2.0000714765e-1f;
  p = p * t - 2.4999993993e-1f;
  p = p * t + 3.3333331174e-1f;
  return t + (p * t * z - 0.5f * z + e * -2.12194440e-4f) + e * 0.693359375f;
}

/// The number that a share `tail` in (0, 0.5) of the normal distribution lies above (Wichura, Algorithm AS 241, PPND7).
RL_INLINE Floats normal_above(Floats tail) {
  const Floats q = 0.5f - tail;
  const Floats r = 0.180625f - q * q;
  const Floats middle = q * (((5.9109374720e+01f * r + 1.5929113202e+02f) * r + 5.0434271938e+01f) * r + 3.3871327179e+00f) /
                        (((6.7187563600e+01f * r + 7.8757757664e+01f) * r + 1.7895169469e+01f) * r + 1.0f);
  const Floats s = square_root(Floats{} - log_below_one(tail)) - 1.6f;
  const Floats far = (((1.7023821103e-01f * s + 1.3067284816e+00f) * s + 2.7568153900e+00f) * s + 1.4234372777e+00f) /
                     ((1.2021132975e-01f * s + 7.3700164250e-01f) * s + 1.0f);
  return select(q <= 0.425f, middle, far);
}

}  // namespace

void fill_normal(float* y, std::int64_t begin, std::int64_t end, std::uint32_t key0, std::uint32_t key1, float std) {
  for (std::int64_t block = begin / 64; block * 64 < end; block++) {
    for (int group = 0; group < 16; group += kLanes) {
      Words c[4];
      for (int lane = 0; lane < kLanes; lane++) c[0][lane] = static_cast<std::uint32_t>(lane);
      const std::int64_t counter = block * 16 + group;
      c[0] += static_cast<std::uint32_t>(counter);  // a multiple of kLanes: no lane carries
      c[1] = Words{} + static_cast<std::uint32_t>(counter >> 32);
      c[2] = c[3] = Words{};
      philox(c, key0, key1);
      for (int word = 0; word < 4; word++) {
        const std::int64_t at = block * 64 + 16 * word + group;
        const std::int64_t left = end - at;
        if (left <= 0) continue;
        const Ints share = reinterpret_cast<Ints>(c[word] >> 1);
        const Floats tail = (__builtin_convertvector(share, Floats) + 0.25f) * 2.3283064365386963e-10f;  // 2^-32
        // A share that rounds up to one half is the middle itself.
        const Floats size = std * normal_above(select(tail < 0.5f, tail, broadcast(0.5f)));
        const Floats value = floats(bits(size) ^ reinterpret_cast<Ints>((c[word] & 1) << 31));
        store_n(y + at, value, static_cast<int>(min_of(left, kLanes)));
      }
    }
  }
}

}  // namespace raylite::RL_ISA

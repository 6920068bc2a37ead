// The multiply-add rate of one core from registers alone: the limit that matrix products are compared with.
#include <ctime>

#include "cpu/gemm_tile.h"
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

namespace {
constexpr int kSums = kLanes == 16 ? 24 : 12;
constexpr int kRounds = 100000;

double now_seconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Best rate, in 10^9 operations per second, of `rounds`, which does `operations` of them; for about `seconds`.
template <typename Rounds>
double best_rate(double seconds, double operations, Rounds rounds) {
  double best = 0;
  const double end = now_seconds() + seconds;
  for (double start = now_seconds(); start < end; start = now_seconds()) {
    rounds();
    const double rate = operations / (now_seconds() - start);
    best = rate > best ? rate : best;
  }
  return best / 1e9;
}

void multiply() {
  Floats sums[kSums] = {};
  const Floats x = broadcast(0.999f);
  const Floats y = broadcast(1e-3f);
  for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; i++) {
      sums[i] = fma(sums[i], x, y);
      asm volatile("" : "+x"(sums[i]));
    }
  }
}

#if defined(__AVX512F__)
__attribute__((noinline, target("avx512bf16"))) void multiply_pairs() {
  Floats sums[kSums] = {};
  const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3c003c00);
  for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 24
    for (int i = 0; i < kSums; i++) {
      sums[i] = _mm512_dpbf16_ps(sums[i], x, x);
      asm volatile("" : "+v"(sums[i]));
    }
  }
}
#endif
}  // namespace

double measure_peak(double seconds) { return best_rate(seconds, 2.0 * kSums * kLanes * kRounds, multiply); }

#if defined(__AVX512F__)
double measure_pair_peak(double seconds) {
  if (!has_pair_products()) return measure_peak(seconds);
  return best_rate(seconds, 4.0 * kSums * kLanes * kRounds, multiply_pairs);
}
#endif

}  // namespace raylite::RL_ISA

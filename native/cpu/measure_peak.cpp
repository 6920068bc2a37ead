// The multiply-add rate of one core from registers alone: the limit that matrix products are compared with.
#include <ctime>

#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

namespace {
double now_seconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}
}  // namespace

double measure_peak(double seconds) {
  constexpr int kSums = kLanes == 16 ? 24 : 12;
  constexpr int kRounds = 100000;
  Floats sums[kSums] = {};
  const Floats x = broadcast(0.999f);
  const Floats y = broadcast(1e-3f);
  double best = 0;
  const double end = now_seconds() + seconds;
  for (double start = now_seconds(); start < end; start = now_seconds()) {
    for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 24
      for (int i = 0; i < kSums; i++) {
        sums[i] = fma(sums[i], x, y);
        asm volatile("" : "+x"(sums[i]));
      }
    }
    const double rate = 2.0 * kSums * kLanes * kRounds / (now_seconds() - start);
    best = rate > best ? rate : best;
  }
  return best / 1e9;
}

}  // namespace raylite::RL_ISA

// What the limits of this folder share: the CPU's widest vectors of floats, and a clock.
#pragma once
#include <time.h>
#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
typedef float Vector __attribute__((vector_size(BYTES)));

static inline double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

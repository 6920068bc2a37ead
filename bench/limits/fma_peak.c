// Prints the multiply-add rate that all threads reach together, in GFLOP/s of float32. Usage: fma_peak THREADS
// Built by the bench for the CPU it runs on.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
typedef float Vector __attribute__((vector_size(BYTES)));

enum { CHAINS = 12, ROUNDS = 1 << 20, REPEATS = 200 };  // enough independent chains to cover the latency of two units

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

static void *work(void *out) {
  Vector sum[CHAINS], a = {0}, b = {0};
  a += 1.0000001f;
  b += 1e-9f;
  for (int c = 0; c < CHAINS; c++) sum[c] = b * (float)c;
  for (long round = 0; round < (long)ROUNDS * REPEATS; round++) {
    for (int c = 0; c < CHAINS; c++) sum[c] = sum[c] * a + b;
    __asm__ volatile("" : "+v"(a));  // no two rounds may be folded into one
  }
  Vector all = {0};
  for (int c = 0; c < CHAINS; c++) all += sum[c];
  *(float *)out = all[0];
  return NULL;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  pthread_t ids[64];
  float out[64];
  if (threads < 1 || threads > 64) return 2;
  double start = seconds();
  for (int t = 0; t < threads; t++) pthread_create(&ids[t], NULL, work, &out[t]);
  for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
  double taken = seconds() - start;
  double flops = 2.0 * CHAINS * (BYTES / 4) * (double)ROUNDS * REPEATS * threads;
  printf("%.1f %g\n", flops / taken / 1e9, (double)out[0]);
  return 0;
}

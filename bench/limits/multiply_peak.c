// Prints the multiply-add rate that all threads reach together, in GFLOP/s. Usage: multiply_peak fp32|bf16 THREADS
// bf16 means dot products of pairs into fp32; a CPU without such instructions multiplies in fp32. Built by the bench for the
// CPU it runs on.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif
#include "machine.h"

enum { CHAINS = 12, ROUNDS = 1 << 20, REPEATS = 200 };  // enough independent chains to cover the latency of two units

static void *multiply_fp32(void *out) {
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

#ifdef __AVX512BF16__
static void *multiply_bf16(void *out) {
  __m512 sum[CHAINS];
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.5f), _mm512_set1_ps(-1.5f));
  for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_set1_ps((float)c);
  for (long round = 0; round < (long)ROUNDS * REPEATS; round++) {
    for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_dpbf16_ps(sum[c], a, a);
    __asm__ volatile("" : "+v"(a));
  }
  __m512 all = _mm512_setzero_ps();
  for (int c = 0; c < CHAINS; c++) all = _mm512_add_ps(all, sum[c]);
  *(float *)out = _mm512_reduce_add_ps(all);
  return NULL;
}
enum { BF16_PAIRS = 2 };
#else
#define multiply_bf16 multiply_fp32
enum { BF16_PAIRS = 1 };
#endif

int main(int argc, char **argv) {
  int is_bf16 = argc > 1 && strcmp(argv[1], "bf16") == 0;
  int threads = argc > 2 ? atoi(argv[2]) : 1;
  pthread_t ids[64];
  float out[64];
  if (threads < 1 || threads > 64) return 2;
  double start = seconds();
  for (int t = 0; t < threads; t++) pthread_create(&ids[t], NULL, is_bf16 ? multiply_bf16 : multiply_fp32, &out[t]);
  for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
  double taken = seconds() - start;
  double flops = 2.0 * (is_bf16 ? BF16_PAIRS : 1) * CHAINS * (BYTES / 4) * (double)ROUNDS * REPEATS * threads;
  printf("%.1f %g\n", flops / taken / 1e9, (double)out[0]);
  return 0;
}

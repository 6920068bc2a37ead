// Prints how fast all threads together read memory that no cache holds, in GB/s. Usage: read_bandwidth THREADS
// Built by the bench for the CPU it runs on.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif
typedef float Vector __attribute__((vector_size(BYTES)));

enum { STREAMS = 8, ROUNDS = 5, THREADS_MAX = 64 };
static const size_t kBytes = (size_t)512 << 20;  // of all threads together: many times any cache

struct Part {
  const Vector *from;
  size_t count;
  float sum;
  pthread_barrier_t *barrier;
  double begins[ROUNDS], ends[ROUNDS];  // by its own clock: whoever else waits at a barrier may get a core only when all is read
};

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

static void *work(void *argument) {
  struct Part *part = argument;
  Vector sums[STREAMS];
  memset(sums, 0, sizeof(sums));
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(part->barrier);
    part->begins[round] = seconds();
    for (size_t i = 0; i + STREAMS <= part->count; i += STREAMS) {
      for (int s = 0; s < STREAMS; s++) sums[s] += part->from[i + s];
    }
    part->ends[round] = seconds();
  }
  part->sum = 0;
  for (int s = 0; s < STREAMS; s++) part->sum += sums[s][0];
  return NULL;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  if (threads < 1 || threads > THREADS_MAX) return 2;
  void *memory = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  madvise(memory, kBytes, MADV_HUGEPAGE);
  memset(memory, 1, kBytes);
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  pthread_t ids[THREADS_MAX];
  struct Part parts[THREADS_MAX];
  const size_t count = kBytes / sizeof(Vector) / (size_t)threads;
  for (int t = 0; t < threads; t++) {
    parts[t] = (struct Part){.from = (const Vector *)memory + (size_t)t * count, .count = count, .barrier = &barrier};
    pthread_create(&ids[t], NULL, work, &parts[t]);
  }
  float sum = 0;
  for (int t = 0; t < threads; t++) {
    pthread_join(ids[t], NULL);
    sum += parts[t].sum;
  }
  double best = 1e30;
  for (int round = 0; round < ROUNDS; round++) {
    double begin = 1e30, end = 0;
    for (int t = 0; t < threads; t++) {
      if (parts[t].begins[round] < begin) begin = parts[t].begins[round];
      if (parts[t].ends[round] > end) end = parts[t].ends[round];
    }
    if (end - begin < best) best = end - begin;
  }
  printf("%.2f %g\n", (double)kBytes / best / 1e9, (double)sum);
  return 0;
}

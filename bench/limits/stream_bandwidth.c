// Prints how fast all threads together go through memory that no cache holds, in GB/s: of every place of READS tensors they read and
// of WRITES tensors they write, nothing in between but an addition. Usage: stream_bandwidth THREADS READS WRITES apart|in-place
// Tensors of their own (apart) are written around the caches where the CPU can; in place means into the first of those that are read.
// Built by the bench for the CPU it runs on.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#include "machine.h"

enum { AT_ONCE = 8, ROUNDS = 5, THREADS_MAX = 64, READS_MAX = 4, WRITES_MAX = 3 };
static const size_t kBytes = (size_t)512 << 20;  // of all tensors together: many times any cache

struct Part {
  Vector *reads[READS_MAX], *writes[WRITES_MAX];
  int read_count, write_count, in_place;
  size_t count;
  Vector sum;
  pthread_barrier_t *barrier;
  double begins[ROUNDS], ends[ROUNDS];  // by its own clock: whoever else waits at a barrier may get a core only when all is done
};

static inline void put(Vector *to, Vector x, int in_place) {
#ifdef __AVX512F__
  if (!in_place) {
    _mm512_stream_ps((float *)to, (__m512)x);
    return;
  }
#endif
  *to = x;
}

static inline __attribute__((always_inline)) void stream(struct Part *part, const int reads, const int writes, const int in_place) {
  Vector sums[AT_ONCE];
  memset(sums, 0, sizeof(sums));
  for (size_t i = 0; i + AT_ONCE <= part->count; i += AT_ONCE) {
    for (int s = 0; s < AT_ONCE; s++) {
      Vector x = part->reads[0][i + s];
      for (int r = 1; r < reads; r++) x += part->reads[r][i + s];
      if (writes == 0) sums[s] += x;
      for (int w = 0; w < writes; w++) put(&part->writes[w][i + s], x, in_place);
    }
  }
  for (int s = 0; s < AT_ONCE; s++) part->sum += sums[s];
}

static inline __attribute__((always_inline)) void stream_reads(struct Part *part, const int writes, const int in_place) {
  switch (part->read_count) {
    case 1: return stream(part, 1, writes, in_place);
    case 2: return stream(part, 2, writes, in_place);
    case 3: return stream(part, 3, writes, in_place);
    default: return stream(part, 4, writes, in_place);
  }
}

static inline __attribute__((always_inline)) void stream_both(struct Part *part, const int in_place) {
  switch (part->write_count) {
    case 0: return stream_reads(part, 0, in_place);
    case 1: return stream_reads(part, 1, in_place);
    case 2: return stream_reads(part, 2, in_place);
    default: return stream_reads(part, 3, in_place);
  }
}

static void *work(void *argument) {
  struct Part *part = argument;
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(part->barrier);
    part->begins[round] = seconds();
    if (part->in_place) {
      stream_both(part, 1);
    } else {
      stream_both(part, 0);
    }
    part->ends[round] = seconds();
  }
  return NULL;
}

static int between(const char *text, int least, int most) {
  const int value = atoi(text);
  if (value < least || value > most) exit(2);
  return value;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const int threads = between(argv[1], 1, THREADS_MAX);
  const int reads = between(argv[2], 1, READS_MAX);
  const int in_place = strcmp(argv[4], "in-place") == 0;
  const int writes = between(argv[3], 0, in_place && reads < WRITES_MAX ? reads : WRITES_MAX);
  const int tensors = in_place ? reads : reads + writes;
  void *memory = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  madvise(memory, kBytes, MADV_HUGEPAGE);
  memset(memory, 0, kBytes);
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  pthread_t ids[THREADS_MAX];
  static struct Part parts[THREADS_MAX];
  const size_t count = kBytes / sizeof(Vector) / (size_t)tensors / (size_t)threads / AT_ONCE * AT_ONCE;
  for (int t = 0; t < threads; t++) {
    struct Part *part = &parts[t];
    *part = (struct Part){.read_count = reads, .write_count = writes, .in_place = in_place, .count = count, .barrier = &barrier};
    Vector *own = (Vector *)memory + (size_t)t * count;
    const size_t apart = count * (size_t)threads;
    for (int r = 0; r < reads; r++) part->reads[r] = own + (size_t)r * apart;
    for (int w = 0; w < writes; w++) part->writes[w] = own + (size_t)(in_place ? w : reads + w) * apart;
    pthread_create(&ids[t], NULL, work, part);
  }
  float sum = 0;
  for (int t = 0; t < threads; t++) {
    pthread_join(ids[t], NULL);
    sum += parts[t].sum[0];
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
  const double bytes = (double)count * sizeof(Vector) * threads * (reads + writes);
  printf("%.2f %g\n", bytes / best / 1e9, (double)sum);
  return 0;
}

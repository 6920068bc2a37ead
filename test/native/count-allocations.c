// Preloaded by allocations.test.ts: counts what the executor's threads (named rl-…) ask of the allocator and of the kernel,
// and prints it when the process ends.
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static atomic_long count;

static void note(void) {
  char name[16] = "";
  prctl(PR_GET_NAME, name);
  if (strncmp(name, "rl-", 3) == 0) atomic_fetch_add(&count, 1);
}

void* malloc(size_t bytes) { return note(), __libc_malloc(bytes); }
void* calloc(size_t many, size_t bytes) { return note(), __libc_calloc(many, bytes); }
void* realloc(void* old, size_t bytes) { return note(), __libc_realloc(old, bytes); }
void* memalign(size_t to, size_t bytes) { return note(), __libc_memalign(to, bytes); }
void* aligned_alloc(size_t to, size_t bytes) { return note(), __libc_memalign(to, bytes); }
int posix_memalign(void** out, size_t to, size_t bytes) {
  note();
  *out = __libc_memalign(to, bytes);
  return *out == NULL ? ENOMEM : 0;
}
void* mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
  note();
  return (void*)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}

__attribute__((destructor)) static void tell(void) { dprintf(2, "allocations %ld\n", atomic_load(&count)); }

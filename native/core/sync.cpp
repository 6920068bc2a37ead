// Spin for some microseconds (a barrier between balanced threads), then a futex.
#include "core/sync.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace raylite {

namespace {

constexpr int kSpins = 400;  // about 10 microseconds: longer than a balanced barrier, shorter than a time slice

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex(std::atomic<std::uint32_t>* address, int operation, std::uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(address), operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr,
          0);
}

}  // namespace

void Signal::publish(std::uint32_t value) {
  // Sequentially consistent with wait_while: either the waiter sees the value, or we see the waiter.
  value_.store(value, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) != 0) futex(&value_, FUTEX_WAKE, INT_MAX);
}

void Signal::wait_while(std::uint32_t old) {
  for (int i = 0; i < kSpins; i++) {
    if (value_.load(std::memory_order_acquire) != old) return;
    pause_briefly();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (value_.load(std::memory_order_seq_cst) == old) futex(&value_, FUTEX_WAIT, old);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace raylite

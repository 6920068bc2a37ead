// Waiting between threads: a short spin, then sleep in the kernel, since other processes share the cores.
#pragma once
#include <atomic>
#include <cstdint>

namespace raylite {

/// A counter that threads can wait on.
class Signal {
 public:
  std::uint32_t load() const { return value_.load(std::memory_order_acquire); }
  /// Stores `value` and wakes every waiter.
  void publish(std::uint32_t value);
  /// Returns when the value is no longer `old`.
  void wait_while(std::uint32_t old);

 private:
  std::atomic<std::uint32_t> value_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};

/// All `count` threads arrive before any leaves; the last to arrive runs `last` alone first.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  template <class Last>
  void arrive(Last last) {
    const std::uint32_t generation = generation_.load();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      last();
      generation_.publish(generation + 1);
    } else {
      generation_.wait_while(generation);
    }
  }

 private:
  const int count_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) Signal generation_;
};

}  // namespace raylite

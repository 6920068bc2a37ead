// Short-lived threads; the first exception is kept and thrown by the caller.
#include "core/parallel.h"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace raylite {

void run_parallel(int threads, const std::function<void(int)>& work) {
  std::mutex mutex;
  std::exception_ptr failure;
  const auto guarded = [&](int index) {
    try {
      work(index);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  for (int index = 1; index < threads; index++) others.emplace_back(guarded, index);
  guarded(0);
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace raylite

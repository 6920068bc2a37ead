#include "comm/watchdog.h"

#include <chrono>
#include <utility>

namespace raylite {

Watchdog::Watchdog(std::vector<std::shared_ptr<Communicator>> groups) : groups_(std::move(groups)) {
  look();
  thread_ = std::thread([this] { loop(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_stopping_) {
    changed_.wait_for(lock, std::chrono::milliseconds(Communicator::kBeatMs), [this] { return is_stopping_; });
    lock.unlock();
    look();
    lock.lock();
  }
}

void Watchdog::look() {
  for (const auto& group : groups_) {
    try {
      group->watch();
    } catch (const CommError& error) {
      for (const auto& other : groups_) other->fail_all(error);
    }
  }
}

}  // namespace raylite

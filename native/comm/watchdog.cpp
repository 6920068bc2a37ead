#include "comm/watchdog.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace raylite {

Watchdog::Watchdog(std::vector<std::shared_ptr<Communicator>> groups, std::function<void(const WatchNews&)> tell)
    : groups_(std::move(groups)), tell_(std::move(tell)) {
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
  // What begins and ends between two signs of life is no waiting.
  const bool is_waiting = std::any_of(groups_.begin(), groups_.end(), [](const auto& group) {
    const auto call = group->call();
    return call && call->ms >= Communicator::kBeatMs;
  });
  for (const auto& group : groups_) {
    try {
      group->watch(group->standing(is_waiting));
    } catch (const CommError& error) {
      for (const auto& other : groups_) other->fail_all(error);
      if (tell_ && !is_broken_) tell_({WatchNews::Kind::kBroken, {error.rank()}, error.what()});
      is_broken_ = true;
    }
  }
  if (tell_ && !is_broken_) look_who_is_late();
}

void Watchdog::look_who_is_late() {
  std::optional<Late> worst;
  for (const auto& group : groups_) {
    std::optional<Late> late = group->late();
    if (late && late->ms >= kLateMs && (!worst || late->ms > worst->ms)) worst = std::move(late);
  }
  if (worst && (!late_ || worst->ranks != late_->ranks)) tell_({WatchNews::Kind::kLate, worst->ranks, worst->message});
  if (!worst && late_) tell_({WatchNews::Kind::kCame, late_->ranks, {}});
  late_ = std::move(worst);
}

}  // namespace raylite

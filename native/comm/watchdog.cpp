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

/// What breaks one group ends all.
template <class Call>
void Watchdog::unless_broken(Call call) {
  try {
    call();
  } catch (const CommError& error) {
    for (const auto& other : groups_) other->fail_all(error);
    if (tell_ && !is_broken_) tell_({WatchNews::Kind::kBroken, {error.rank()}, error.what()});
    is_broken_ = true;
  }
}

void Watchdog::look() {
  // What begins and ends between two signs of life is no waiting.
  const bool is_waiting = std::any_of(groups_.begin(), groups_.end(), [](const auto& group) {
    const auto call = group->call();
    return call && call->ms >= Communicator::kBeatMs;
  });
  // What ended a call is passed on first: a rank that no longer waits, and says so, would be blamed by who waits for it.
  for (const auto& group : groups_) unless_broken([&] { group->check(); });
  for (const auto& group : groups_) unless_broken([&] { group->watch(group->standing(is_waiting)); });
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

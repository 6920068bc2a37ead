// Watches over all groups of one rank, on a thread of its own: a process that has ended or stands still is noticed also by ranks
// that do not wait for it, and what broke one group ends all.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/communicator.h"

namespace raylite {

class Watchdog {
 public:
  /// Gives the first sign of life before it returns.
  explicit Watchdog(std::vector<std::shared_ptr<Communicator>> groups);
  /// Stops watching. The groups may then be left.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void look();
  void loop();

  const std::vector<std::shared_ptr<Communicator>> groups_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace raylite

// Watches over all groups of one rank, on a thread of its own: a process that has ended or stands still is noticed also by ranks
// that do not wait for it, and what broke one group ends all. Who lets this rank wait for long is told by name.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"

namespace raylite {

/// What the owner of a rank is told of its groups.
struct WatchNews {
  enum class Kind {
    kLate,    // `ranks` let this one wait
    kCame,    // those told before do no longer
    kBroken,  // a group has failed, and with it all
  } kind;
  std::vector<int> ranks;  // by their numbers in the job
  std::string message;
};

class Watchdog {
 public:
  static constexpr double kLateMs = 4000;  // in a call before the late rank is told: with what signs of life take, within 5 s

  /// Gives the first sign of life before it returns. `tell` is called from the watching thread, if it is given.
  explicit Watchdog(std::vector<std::shared_ptr<Communicator>> groups, std::function<void(const WatchNews&)> tell = nullptr);
  /// Stops watching. The groups may then be left.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  template <class Call>
  void unless_broken(Call call);
  void look();
  void look_who_is_late();
  void loop();

  const std::vector<std::shared_ptr<Communicator>> groups_;
  const std::function<void(const WatchNews&)> tell_;
  std::optional<Late> late_;  // as was told last
  bool is_broken_ = false;    // was told
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace raylite

// What both kinds of group need in order to form, and to know when to give up.
#pragma once
#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

namespace raylite {

using Clock = std::chrono::steady_clock;

/// A point in time after which waiting is over. Infinite milliseconds never expire.
class Deadline {
 public:
  explicit Deadline(double milliseconds)
      : is_endless_(!(milliseconds < 1e12)),
        at_(Clock::now() + std::chrono::microseconds(is_endless_ ? 0 : static_cast<long long>(milliseconds * 1000))) {}
  bool expired() const { return !is_endless_ && Clock::now() >= at_; }
  /// Milliseconds left, at most `most`; what a poll may sleep.
  int left_ms(int most) const {
    if (is_endless_) return most;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return left < 0 ? 0 : left < most ? static_cast<int>(left) + 1 : most;
  }

 private:
  bool is_endless_;
  Clock::time_point at_;
};

struct JoinOptions {
  int rank;
  int size;
  std::vector<int> names;       // of the ranks in the job; empty: as here
  double timeout_ms;            // for forming the group
  double operation_timeout_ms;  // for each later wait on a peer
  const std::atomic<bool>* is_cancelled;  // set when nobody wants the group any more
  bool seals = false;  // what goes over the network is encrypted, by keys that follow from the group's secret
};

/// "ranks 1 and 3", "rank 2".
inline std::string names_of(std::vector<int> ranks, const JoinOptions& options) {
  if (!options.names.empty()) {
    for (int& rank : ranks) rank = options.names[static_cast<std::size_t>(rank)];
  }
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

/// "1500 ms" as people write it, without the digits of a double.
inline std::string milliseconds(double value) { return std::to_string(static_cast<long long>(value)) + " ms"; }

}  // namespace raylite

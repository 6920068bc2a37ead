// What a rank knows of the beats of one peer. Silence is counted in own beats: where all of a machine stood still, the time did too.
#pragma once
#include <cstdint>

#include "comm/communicator.h"

namespace raylite {

struct Pulse {
  std::uint32_t beats = 0;
  int missed = 0;

  /// Takes the number of beats that the peer has made so far, 0 before its first. True when it stands still.
  bool is_silent_at(std::uint32_t seen) {
    missed = seen == beats ? missed + 1 : 0;
    beats = seen;
    return seen != 0 && missed >= Communicator::kBeatsMissed;
  }
};

inline std::string stands_still(const std::string& rank) {
  const int seconds_x10 = Communicator::kBeatsMissed * Communicator::kBeatMs / 100;
  return rank + " stands still: its process has given no sign of life for " + std::to_string(seconds_x10 / 10) + "." +
         std::to_string(seconds_x10 % 10) + " s";
}

}  // namespace raylite

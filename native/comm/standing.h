// How far the ranks of a group are, so that one that lets others wait can be named: each tells its peers with every sign of life.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace raylite {

/// Of one rank, as its peers know it.
struct Standing {
  bool is_known = false;     // it has told
  bool is_waiting = false;   // it is in a call of some group itself
  std::uint32_t host = 0;    // calls over the host that it has begun
  std::uint32_t device = 0;  // calls that its device has begun
};

/// The call that a rank is in.
struct CallUnderWay {
  bool is_of_device = false;
  std::uint32_t number = 0;  // of its kind, from 1
  std::string what, place;   // for messages; either may be empty
  int to = -1, from = -1;    // the peers of a transfer
  double ms = 0;             // since when

  /// Whether it is `peer` that this call waits for: one that waits itself is not to blame.
  bool waits_for(int peer, const Standing& standing) const {
    if (!standing.is_known || standing.is_waiting) return false;
    if (to >= 0 || from >= 0) return peer == to || peer == from;
    return static_cast<std::int32_t>((is_of_device ? standing.device : standing.host) - number) < 0;
  }
};

/// Who lets this rank wait.
struct Late {
  std::vector<int> ranks;  // by their numbers in the job
  std::string message;
  double ms = 0;
};

}  // namespace raylite

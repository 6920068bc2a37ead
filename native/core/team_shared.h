// What the threads of one team share while they run instructions.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "core/sync.h"
#include "core/team.h"

namespace raylite {

class TeamShared {
 public:
  explicit TeamShared(int count) : barrier(count) {}

  /// The forbidden value that the instruction met, in words; empty: none.
  std::string fault() const;

  Barrier barrier;
  alignas(64) std::atomic<std::int64_t> claimed{0};
  bool stop = false;     // written by the last to arrive at a barrier, read by all after it
  double started = 0.0;  // the same: when the instruction began, if that is measured

  // The lowest row that held a forbidden value in the current instruction.
  std::mutex fault_mutex;
  bool has_fault = false;
  std::string fault_what;
  std::int64_t fault_row = 0, fault_value = 0, fault_low = 0, fault_high = 0;
};

}  // namespace raylite

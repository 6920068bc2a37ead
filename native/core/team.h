// The threads that run one instruction together. Every thread of a team calls the same kernel with the same arguments
// and its own Team; the kernel splits the work by `index`, or by claim() where tiles take unequal time.
// Included by sources compiled for several instruction sets: nothing here may be an inline function.
#pragma once
#include <cstddef>
#include <cstdint>

namespace raylite {

class TeamShared;
class Queue;

struct Team {
  int index = 0;
  int count = 1;
  std::uint8_t* workspace = nullptr;  // shared by the team, 64-byte aligned, as large as the kernel asked for
  TeamShared* shared = nullptr;
  Queue* queue = nullptr;  // of a GPU, whose kernels only put work there (native/cuda/queue.h); the rest is then of no use but the workspace

  /// Waits for every thread of the team. Every thread must call it equally often.
  void barrier() const;
  /// The next number that no thread of the team has had since the last barrier, from 0.
  std::int64_t claim() const;
  /// Ends the run after this instruction with code ENGINE: `what`[row] is `value`, allowed is low <= value < high.
  /// The lowest row of the instruction is reported.
  void fail_value(const char* what, std::int64_t row, std::int64_t value, std::int64_t low, std::int64_t high) const;
};

}  // namespace raylite

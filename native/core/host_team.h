// The host beside a device that has memory of its own: CPU kernels and threads that make the instructions whose operands all lie in
// memory of the host (the stream kHost). Bits are those of a CPU device with as many threads.
#pragma once
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "core/kernels.h"
#include "core/memory.h"
#include "core/program.h"
#include "core/team_shared.h"

namespace raylite {

class HostTeam {
 public:
  HostTeam(int threads, const Kernels& kernels) : threads_(threads), kernels_(kernels), shared_(threads) {}
  ~HostTeam();
  HostTeam(const HostTeam&) = delete;
  HostTeam& operator=(const HostTeam&) = delete;

  const Kernels& kernels() const { return kernels_; }
  int threads() const { return threads_; }
  /// Starts the threads, all but the one that will call run(). Programs that need none cost none.
  void start();
  /// Runs an instruction by all threads, the caller's among them, and waits for them. One call at a time. Throws EngineError for a
  /// value that is out of range.
  void run(const Bound& bound, std::uint8_t* workspace);

 private:
  void work(int index);
  void thread_main(int index);

  const int threads_;
  const Kernels& kernels_;
  TeamShared shared_;
  Signal generation_;  // of calls
  bool stopping_ = false;               // these three are published by the generation
  const Bound* bound_ = nullptr;
  std::uint8_t* workspace_ = nullptr;
  std::vector<std::thread> others_;
};

/// `bound`, made by the team wherever it is called.
Bound by_host_team(std::shared_ptr<HostTeam> team, Bound bound, std::shared_ptr<Memory> workspace);

}  // namespace raylite

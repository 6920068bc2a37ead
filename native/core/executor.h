// The threads of a device, and how they run a program: a team on the compute stream, one thread on each other stream that a
// program uses, each stream in order, waiting for the others where the plan says so. Nothing here runs on the caller's thread.
// All threads take part in every run: those of streams that a program does not use find nothing to do.
#pragma once
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/device.h"
#include "core/program.h"

namespace raylite {

class Executor {
 public:
  /// `threads` compute threads, and one for each other stream once a program uses it; `pin` binds compute thread i to the i-th
  /// allowed core.
  Executor(int threads, bool pin);
  /// Cancels a run in progress (its outcome: ENGINE) and joins the threads.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Starts a run; `done` is called from a thread of the executor when all of them have finished with the program.
  /// Throws EngineError("ENGINE") while another run is in progress.
  void start(std::shared_ptr<Program> program, const RunOptions& options, std::function<void(Outcome)> done);
  /// Ends a run in progress at the next instruction, making collectives of the group fail. Does not wait.
  void cancel(const std::string& reason);
  /// Waits until no run is in progress.
  void wait_idle();

 private:
  struct Run;
  void compute_main(int thread, bool pin, std::uint64_t seen);
  void stream_main(std::uint32_t stream, std::uint64_t seen);
  std::shared_ptr<Run> next_run(std::uint64_t& seen);
  void leave(Run& run);

  const int threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Run> current_;
  std::uint64_t generation_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> pool_;       // grows in start() alone
  bool has_thread_[kStreams] = {true};  // the compute stream from the beginning
};

}  // namespace raylite

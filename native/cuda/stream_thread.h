// A stream of a program that the host makes: transfers of files, or kernels of the CPU over memory of the host. A thread of its own makes its
// instructions in the order of the plan. The stream hands them over and goes on; what needs one waits for it in a function of the host on
// its own stream. So a disk that is slow, or a step of the host, holds up nobody else, and a captured graph holds all of it.
#pragma once
#include <cuda_runtime.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/program.h"

namespace raylite::cuda {

class StreamThread {
 public:
  StreamThread(const Program& program, raylite::Stream stream);
  ~StreamThread();
  StreamThread(const StreamThread&) = delete;
  StreamThread& operator=(const StreamThread&) = delete;

  /// Puts an instruction on the stream: it is over after the others before it.
  void put(std::size_t instruction, cudaStream_t stream);
  /// Has the stream wait until so many instructions of the run are over, all of which have been put.
  void wait(cudaStream_t stream, std::uint32_t count);

  /// Before a run, and after it: throws EngineError, the first failure of its instructions.
  void begin();
  void throw_failure();
  /// Waits until nothing is under way.
  void drain();

 private:
  struct Call {
    StreamThread* owner;
    std::size_t instruction;  // to make
    std::uint32_t count;      // of a wait
  };
  static void hand_over(void* call);
  static void await(void* call);
  void thread_main();

  const Program& program_;
  std::map<std::size_t, Call> calls_;    // what streams and graphs hold: places that stay
  std::map<std::uint32_t, Call> waits_;
  std::mutex mutex_;  // for all that follows
  std::condition_variable changed_;
  std::deque<std::size_t> queue_;
  bool is_busy_ = false;
  bool is_stopping_ = false;
  std::uint32_t over_ = 0;
  std::string failure_;
  std::thread thread_;
};

}  // namespace raylite::cuda

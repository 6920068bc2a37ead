// Files of a program: a thread of its own reads and writes between them and memory of the host, in the order of the plan. The stream of the disk
// hands its transfers over and goes on; what needs one waits for it in a function of the host on its own stream. So a disk that is slow
// holds up nobody else, and a captured graph holds all of it.
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

class DiskCalls {
 public:
  explicit DiskCalls(const Program& program);
  ~DiskCalls();
  DiskCalls(const DiskCalls&) = delete;
  DiskCalls& operator=(const DiskCalls&) = delete;

  /// Puts the transfer of an instruction on the stream: it is over after the others before it.
  void put(std::size_t instruction, cudaStream_t stream);
  /// Has the stream wait until so many transfers of the run are over, all of which have been put.
  void wait(cudaStream_t stream, std::uint32_t count);

  /// Before a run, and after it: throws EngineError, the first failure of its transfers.
  void begin();
  void throw_failure();
  /// Waits until nothing is under way.
  void drain();

 private:
  struct Call {
    DiskCalls* owner;
    std::size_t instruction;  // of a transfer
    std::uint32_t count;      // of a wait
  };
  static void hand_over(void* call);
  static void await(void* call);
  void thread_main();

  const Program& program_;
  std::map<std::size_t, Call> transfers_;    // what streams and graphs hold: places that stay
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

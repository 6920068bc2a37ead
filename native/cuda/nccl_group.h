// A group of ranks whose GPUs exchange by NCCL: calls are put on a stream, and a captured graph holds them. Beside it stays the group
// over the host, which knows who has ended, stands still or gave up; a thread looks at both and gives up NCCL's calls,
// which else would wait for ever.
#pragma once
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/cuda_api.h"
#include "cuda/handles.h"
#include "cuda/inspect.h"
#include "cuda/nccl_library.h"
#include "cuda/queue.h"

namespace raylite::cuda {

class NcclGroup {
 public:
  /// Waits for all ranks. Throws GroupFailure.
  NcclGroup(const Nccl& nccl, int device, const CudaGroup& group);
  /// Leaves when what was put has come to its end on all ranks, or after a second.
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  bool is_over(const Communicator& ranks) const { return ranks_.lock().get() == &ranks; }
  bool is_left() const { return ranks_.expired(); }
  /// Puts the call on the queue. Throws GroupFailure.
  void put(const CollectiveArguments& a, const Queue& queue);
  /// Passes a message on a stream of its own, beside programs, and waits for its end. Throws GroupFailure.
  void pass(const CudaMessage& message);
  /// While it is held nobody gives the group up. Throws the GroupFailure of one that was given up.
  std::unique_lock<std::mutex> hold();

 private:
  class Calls;
  using Clock = std::chrono::steady_clock;
  void settle(const char* call, ncclResult_t result);
  std::uint32_t place_of(const std::string& text);
  bool is_whole(CollectiveFailure& failure) const;
  bool has_error(CollectiveFailure& failure);
  bool is_late(CollectiveFailure& failure);
  void tell_where() const;
  std::string text_of(std::uint32_t place) const;
  void give_up(const CollectiveFailure& failure);
  void watch();
  void abort();

  const Nccl& nccl_;
  const int device_;
  const int rank_;
  const int size_;
  const std::weak_ptr<Communicator> ranks_;
  bool (*const check_)(Communicator&, CollectiveFailure&);
  void (*const stands_at_)(Communicator&, std::uint32_t, const std::string&);
  bool (*const late_)(Communicator&, double, CollectiveFailure&);
  const std::chrono::duration<double, std::milli> timeout_;
  DeviceBytes scratch_;
  Stream messages_;
  PinnedBytes mark_;  // where the stream is: a place below, counted from 1, or 0 outside of collectives
  std::map<std::string, std::uint32_t> places_;
  ncclComm_t comm_ = nullptr;

  std::mutex mutex_;  // for all that follows, the two above, and calls of NCCL
  std::condition_variable changed_;
  bool is_stopping_ = false;
  bool is_given_up_ = false;
  CollectiveFailure failure_;
  std::uint32_t seen_count_ = 0;
  Clock::time_point seen_at_, error_at_;
  bool has_seen_error_ = false;
  std::thread thread_;
};

}  // namespace raylite::cuda

// The Communicator of ranks on one machine: each stages its data in chunks in shared memory and reads the others' there.
#pragma once
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/join.h"
#include "comm/shm_segment.h"

namespace raylite {

class ShmCommunicator final : public Communicator {
 public:
  /// Blocks until all ranks of the group `name` have come.
  ShmCommunicator(const std::string& name, const JoinOptions& options);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_.load(std::memory_order_relaxed); }
  void all_reduce(float* data, std::size_t count, ReduceOp op) override;
  void reduce_scatter(float* data, std::size_t slice_count) override;
  void all_gather(float* data, std::size_t slice_count) override;
  void broadcast(float* data, std::size_t count, int root) override;
  void barrier() override;
  void abort(const std::string& reason) noexcept override;

 private:
  using Member = ShmSegment::Member;
  void all_reduce_at_once(float* data, std::size_t count, ReduceOp op);
  void all_reduce_by_parts(float* data, std::size_t count, ReduceOp op);
  template <typename Stage, typename Reduce, typename Collect>
  void run(const Signature& signature, std::size_t chunks, Stage stage, Reduce reduce, Collect collect);
  void wait_for_peers(Counter Member::*counter, std::uint32_t target);
  void wait_for(int peer, Counter Member::*counter, std::uint32_t target);
  [[noreturn]] void fail(int rank, const std::string& reason);
  int latest() const;
  const float* staged(int rank, std::uint32_t sequence) const { return segment_.slot(rank, sequence).data; }
  void count_sent(std::size_t floats) { bytes_sent_.fetch_add(floats * sizeof(float), std::memory_order_relaxed); }

  ShmSegment segment_;
  const int rank_;
  const int size_;
  const double operation_timeout_ms_;
  const std::chrono::microseconds spin_;
  std::mutex one_call_;
  std::vector<const float*> inputs_;  // of the reduction under way, by rank
  std::uint32_t sequence_ = 0;  // chunks of all calls so far: equal on all ranks between calls
  std::atomic<std::uint64_t> bytes_sent_{0};
};

}  // namespace raylite

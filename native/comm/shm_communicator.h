// The Communicator of ranks on one machine: each stages its data in chunks in shared memory and reads the others' there.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/join.h"
#include "comm/pulse.h"
#include "comm/shm_segment.h"

namespace raylite {

class ShmCommunicator final : public Communicator {
 public:
  /// Blocks until all ranks of the group `name` have come.
  ShmCommunicator(const std::string& name, const JoinOptions& options);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_.load(std::memory_order_relaxed); }
  void all_reduce(void* data, std::size_t count, Number number, ReduceOp op) override;
  void reduce_scatter(void* data, std::size_t slice_count, Number number) override;
  void all_gather(void* data, std::size_t slice_bytes) override;
  void all_to_all(const void* in, void* out, std::size_t slice_bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void send_receive(const Transfer& transfer) override;
  /// This machine's part of a reduction over several: total = head, then slice `rank` of every rank's data in their order, in f32.
  /// Slice r begins at r * stride and has `count` numbers. Without a head (null) the first rank's is first.
  void add_up(const float* head, float* total, const void* data, std::size_t stride, std::size_t count, Number number, ReduceOp op);
  void barrier() override;
  void fail_all(const CommError& error) noexcept override { segment_.abort(error.rank(), error.what()); }
  void check() override { segment_.check_abort(); }
  void watch(const Standing& own) override;
  using Communicator::belong_to;

 private:
  Standing standing_of(int peer) const override;
  using Member = ShmSegment::Member;
  using Lane = ShmSegment::Lane;
  /// The bytes [start, start + length) of `bytes` that chunk `index` covers.
  struct Range {
    Range(std::size_t index, std::size_t per_chunk, std::size_t bytes)
        : start(std::min(index * per_chunk, bytes)), length(std::min(per_chunk, bytes - start)) {}
    std::size_t start, length;
  };
  /// A slot that holds a chunk for one peer: free once that one has consumed so many of the lane.
  struct Lent {
    int to = -1;
    std::uint32_t posted = 0;
  };
  void all_reduce_at_once(std::uint8_t* data, std::size_t count, Number number, ReduceOp op);
  void all_reduce_by_parts(std::uint8_t* data, std::size_t count, Number number, ReduceOp op);
  template <typename Stage, typename Reduce, typename Collect>
  void run(const Signature& signature, std::size_t chunks, Stage stage, Reduce reduce, Collect collect);
  void wait_for_peers(Counter Member::*counter, std::uint32_t target);
  void wait_for(int peer, Counter Member::*counter, std::uint32_t target);
  void expect_same(int peer, const Signature& theirs, const Signature& ours);
  [[noreturn]] void fail(int rank, const std::string& reason);
  std::string context() const;
  int latest() const;
  void stage_parts(const Range& range, const std::uint8_t* data, std::size_t stride, std::uint8_t* slot);
  bool send_chunk(const Transfer& transfer, std::size_t chunk);
  bool receive_chunk(const Transfer& transfer, std::size_t chunk);
  bool is_free(const Lent& slot) const;
  void take_slots_back();
  template <typename Condition>
  void wait_for_bell(int peer, Condition is_met);
  void learn_from(Clock::time_point start);
  [[noreturn]] void fail_lost(int rank);
  void fail_if_late(int suspect, Clock::time_point start);
  /// What a slot has for each rank, in whole cache lines.
  std::size_t part_of_slot() const { return ShmSegment::kSlotBytes / static_cast<std::size_t>(size_) & ~std::size_t{63}; }
  const std::uint8_t* staged(int rank, std::uint32_t sequence) const { return segment_.slot(rank, sequence).data; }
  void count_sent(std::size_t bytes) { bytes_sent_.fetch_add(bytes, std::memory_order_relaxed); }

  ShmSegment segment_;
  const int rank_;
  const int size_;
  const double operation_timeout_ms_;
  const std::chrono::nanoseconds spin_max_;
  std::chrono::nanoseconds spin_;  // before the next wait sleeps
  std::mutex one_call_;
  Signature current_{};              // of the call under way
  std::vector<const void*> inputs_;  // of the reduction under way, by rank
  std::uint32_t sequence_ = 0;  // chunks of all collectives so far: equal on all ranks between calls
  std::uint32_t transfers_ = 0;  // chunks that this rank has sent to single peers
  Lent lent_[ShmSegment::kSlots];
  std::vector<Pulse> pulses_;  // by rank; for the thread that watches
  std::atomic<std::uint64_t> bytes_sent_{0};
};

}  // namespace raylite

// The Communicator of ranks on several machines with several ranks each: shared memory inside a machine, TCP between machines,
// where nothing that the ranks of a machine share crosses twice.
//
// Rank = machine * per_machine + lane. Ranks of one lane talk across machines. Sums still run over all ranks in their order: a
// machine adds its ranks to what the machine before has summed, chunk by chunk, so that the bits are those of the siblings.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/join.h"
#include "comm/shm_communicator.h"
#include "comm/tcp_communicator.h"

namespace raylite {

class HierarchicalCommunicator final : public Communicator {
 public:
  /// `name` is that of the machines' groups in shared memory; the number of the machine is added to it.
  HierarchicalCommunicator(const std::string& name, int machines, const TcpListener& listener,
                           const std::vector<std::string>& addresses, const std::string& secret, const JoinOptions& options);

  int rank() const override { return rank_; }
  int size() const override { return machines_ * per_machine_; }
  std::uint64_t bytes_sent() const override { return inner_->bytes_sent() + between_->bytes_sent(); }
  void all_reduce(void* data, std::size_t count, Number number, ReduceOp op) override;
  void reduce_scatter(void* data, std::size_t slice_count, Number number) override;
  void all_gather(void* data, std::size_t slice_bytes) override;
  void all_to_all(const void* in, void* out, std::size_t slice_bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void send_receive(const Transfer& transfer) override;
  void barrier() override;
  void fail_all(const CommError& error) noexcept override;
  void check() override;
  void watch(const Standing& own) override;
  void set_place(const char* place) override {
    Communicator::set_place(place);
    inner_->set_place(place);
    between_->set_place(place);
  }

 private:
  Standing standing_of(int peer) const override { return between_->standing_of(peer); }
  template <typename Call>
  void guarded(Call call);
  template <typename Call>
  void entered(const Signature& signature, Call call, int to = -1, int from = -1);
  void sum_over_machines(std::uint8_t* data, std::size_t stride, std::size_t count, Number number, ReduceOp op);
  /// One per rank of the group, none of them used.
  std::vector<DirectExchange::Route> no_routes() const { return std::vector<DirectExchange::Route>(static_cast<std::size_t>(size())); }
  std::size_t at(int machine) const { return static_cast<std::size_t>(machine * per_machine_ + lane_); }
  bool is_last_machine() const { return machine_ == machines_ - 1; }

  const int rank_, machines_, per_machine_, machine_, lane_;
  std::unique_ptr<ShmCommunicator> inner_;
  std::unique_ptr<TcpCommunicator> between_;  // of all ranks
  std::vector<float> head_, total_;           // of the chunk under way
};

}  // namespace raylite

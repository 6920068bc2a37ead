// The Communicator of ranks on several machines: a full mesh of TCP connections.
#pragma once
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/join.h"
#include "comm/pulse.h"
#include "comm/signature.h"
#include "comm/tcp_exchange.h"
#include "comm/tcp_mesh.h"

namespace raylite {

class TcpCommunicator final : public Communicator {
 public:
  /// Blocks until all ranks have come; the listener is not needed afterwards.
  TcpCommunicator(const TcpListener& listener, const std::vector<std::string>& addresses, const std::string& secret,
                  const JoinOptions& options);
  ~TcpCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_.load(std::memory_order_relaxed); }
  void all_reduce(void* data, std::size_t count, Number number, ReduceOp op) override;
  void reduce_scatter(void* data, std::size_t slice_count, Number number) override;
  void all_gather(void* data, std::size_t slice_bytes) override;
  void all_to_all(const void* in, void* out, std::size_t slice_bytes) override;
  void broadcast(void* data, std::size_t bytes, int root) override;
  void send_receive(const Transfer& transfer) override;
  /// Any set of transfers, as one call; `signature` is that of all of them.
  void move(const Signature& signature, std::vector<DirectExchange::Route> routes);
  void barrier() override;
  void fail_all(const CommError& error) noexcept override { set_aborted(error.rank(), error.what()); }
  void check() override { check_abort(); }
  void watch(const Standing& own) override;
  using Communicator::belong_to;
  Standing standing_of(int peer) const override;

 private:
  struct FrameHeader {
    std::uint32_t magic;
    std::uint32_t call;  // the sender's calls so far that sent to the receiver, as a check
    Signature signature;
    std::uint32_t phase;
    std::uint32_t chunk;
    std::uint64_t bytes;
  };
  /// What travels beside the data: signs of life, that a rank leaves, and why the group has failed.
  struct News {
    enum class Kind : std::uint32_t { kBeat, kLeave, kFailure };
    std::uint32_t magic;
    Kind kind;
    std::int32_t rank;
    std::uint32_t host_calls, device_calls, is_waiting;  // of a Standing, with a sign of life
    char reason[500];
  };
  struct Peer {
    TcpLinks links;
    // the frame under way to the peer
    bool is_sending = false;
    FrameHeader out_header{};
    Frame out{};
    std::size_t out_bytes = 0;
    std::vector<std::uint8_t> out_sealed;  // in a group that seals: all of it, as it goes over the wire
    // the frame under way from the peer
    FrameHeader in_header{};
    std::uint8_t in_header_sealed[sizeof(FrameHeader) + Seal::kTagBytes];
    std::uint8_t in_tag[Seal::kTagBytes];  // of the data
    std::size_t in_bytes = 0;
    std::uint8_t* in_data = nullptr;  // null until the header is whole and there is a place for the data
    std::uint32_t calls_out = 0, calls_in = 0;  // that frames went to the peer in, or came from it
    // of the present call
    std::size_t frames_to_send = 0, frames_to_receive = 0;
    bool is_stalled = false;  // the frame at hand has no place yet
    std::atomic<bool> is_control_over{false};  // nothing will come any more; the connection stays for who may be writing
    // guarded by news_mutex_
    std::uint8_t news[sizeof(News) + Seal::kTagBytes];  // as it comes
    std::size_t news_bytes = 0;
    std::uint32_t beats = 0;
    bool has_left = false;
    Pulse pulse;
    Standing standing;
  };
  enum class Progress { kNone, kSome };

  void run(const Signature& signature, Exchange& exchange) { run(signature, signature, exchange); }
  void run(const Signature& out, const Signature& in, Exchange& exchange);
  bool is_done() const;
  Progress advance(Exchange& exchange, const Signature& out, const Signature& in);
  Progress send_some(int rank, Exchange& exchange, const Signature& signature);
  Progress receive_some(int rank, Exchange& exchange, const Signature& signature);
  bool find_place(int rank, Exchange& exchange, const Signature& signature);
  void seal_frame(Peer& to);
  void open_header(int rank);
  void wait(int milliseconds);
  void read_news(int rank);
  [[noreturn]] void peer_failed(int rank, const std::string& what);
  void fail_if_late(double waited_ms);
  [[noreturn]] void fail(int rank, const std::string& reason);
  std::string context() const;
  void tell_all(const News& news) noexcept;
  void set_aborted(int rank, const std::string& reason) noexcept;
  void check_abort();
  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }

  const int rank_;
  const int size_;
  const double operation_timeout_ms_;
  std::vector<Peer> peers_;  // by rank; the own one is empty
  Fd wake_;                  // an eventfd that abort() writes to
  Scratch scratch_;
  std::mutex one_call_;
  Signature current_{};     // of the call under way
  mutable std::mutex news_mutex_;  // who reads the control connections: a call, or the thread that watches
  std::atomic<std::uint64_t> bytes_sent_{0};
  std::atomic<bool> is_aborted_{false};
  std::mutex abort_mutex_;
  int abort_rank_ = -1;
  std::string abort_reason_;
};

}  // namespace raylite

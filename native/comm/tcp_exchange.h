// What one collective sends to whom, and where the peers' data goes. Decides only; tcp_communicator moves the bytes.
//
// Data travels in frames of one chunk. To each peer they leave in an order that the peer can predict, except that the two
// phases of a collective (contributions, results) may interleave.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "comm/communicator.h"

namespace raylite {

constexpr std::size_t kChunkBytes = 256 << 10;

enum Phase : std::uint32_t { kContribution = 0, kResult = 1 };

struct Frame {
  std::uint32_t phase;
  std::uint32_t chunk;
  const std::uint8_t* data;
  std::size_t bytes;
};

/// The rank's own view of one collective. Peers are ranks; the rank's own is never asked about.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual std::size_t frames_out(int peer) const = 0;
  virtual std::size_t frames_in(int peer) const = 0;
  /// The next frame for `peer` if there is one ready; taken when true.
  virtual bool next(int peer, Frame& frame) = 0;
  virtual void sent(int peer, const Frame& frame) = 0;
  enum class Place { kReady, kLater, kWrong };
  /// Where a frame from `peer` belongs. kLater: nothing may be read from the peer now. kWrong: no such frame is due.
  virtual Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) = 0;
  virtual void arrived(int peer, std::uint32_t phase, std::uint32_t chunk) = 0;
};

/// Room for the chunks of all peers that wait to be summed. Kept by the communicator from call to call.
class Scratch {
 public:
  static constexpr std::size_t kDepth = 4;  // chunks that a peer may be ahead of the slowest
  explicit Scratch(int size) : chunks_(static_cast<std::size_t>(size) * kDepth) {}
  std::uint8_t* at(int peer, std::size_t chunk) {
    std::vector<std::uint8_t>& place = chunks_[static_cast<std::size_t>(peer) * kDepth + chunk % kDepth];
    if (place.empty()) place.resize(kChunkBytes);
    return place.data();
  }

 private:
  std::vector<std::vector<std::uint8_t>> chunks_;
};

/// Everybody sends everything to everybody and sums by itself: all-reduce of little data or two ranks, and the barrier.
class FlatExchange final : public Exchange {
 public:
  FlatExchange(int rank, int size, std::uint8_t* data, std::size_t bytes, Number number, ReduceOp op, Scratch& scratch);
  std::size_t frames_out(int) const override { return chunks_; }
  std::size_t frames_in(int) const override { return chunks_; }
  bool next(int peer, Frame& frame) override;
  void sent(int peer, const Frame& frame) override;
  Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) override;
  void arrived(int peer, std::uint32_t phase, std::uint32_t chunk) override;

 private:
  std::size_t length_of(std::size_t chunk) const;
  void reduce_ready();

  const int rank_, size_;
  std::uint8_t* const data_;
  const std::size_t bytes_;
  const Number number_;
  const ReduceOp op_;
  Scratch& scratch_;
  const std::size_t chunks_;  // at least one, so that a barrier has a frame
  std::size_t reduced_ = 0;
  std::vector<std::size_t> taken_, sent_, arrived_;  // chunks, by peer
  std::vector<const void*> inputs_;
};

/// The data is cut into one slice per rank. Contribution phase: each slice goes to its rank, which sums it. Result phase:
/// each rank sends its slice to all. Reduce-scatter is the first phase, all-gather the second, all-reduce both.
class SliceExchange final : public Exchange {
 public:
  struct Phases {
    bool contribute, share;
  };
  /// Slices have `slice_bytes`; the last ones are cut to what `bytes` leaves.
  SliceExchange(int rank, int size, std::uint8_t* data, std::size_t bytes, std::size_t slice_bytes, Phases phases,
                Number number, ReduceOp op, Scratch& scratch);
  std::size_t frames_out(int peer) const override;
  std::size_t frames_in(int peer) const override;
  bool next(int peer, Frame& frame) override;
  void sent(int, const Frame&) override {}
  Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) override;
  void arrived(int peer, std::uint32_t phase, std::uint32_t chunk) override;

 private:
  std::size_t start_of(int slice) const;
  std::size_t length_of(int slice) const;
  std::size_t chunks_of(int slice) const;
  std::uint8_t* chunk_at(int slice, std::size_t chunk, std::size_t& bytes) const;
  void reduce_ready();

  const int rank_, size_;
  std::uint8_t* const data_;
  const std::size_t bytes_, slice_bytes_;
  const Phases phases_;
  const Number number_;
  const ReduceOp op_;
  Scratch& scratch_;
  std::size_t ready_;  // chunks of the own slice that may be shared
  std::vector<std::size_t> contributed_, shared_, arrived_, results_;  // chunks, by peer
  std::vector<const void*> inputs_;
};

/// Bytes that go where they belong as they are: to each peer some, from each peer some.
class DirectExchange final : public Exchange {
 public:
  struct Route {
    const std::uint8_t* out = nullptr;
    std::size_t out_bytes = 0;
    bool is_sent = false;
    std::uint8_t* in = nullptr;
    std::size_t in_bytes = 0;
    bool is_received = false;
  };
  /// By peer. What is sent or received has at least one frame, if an empty one.
  explicit DirectExchange(std::vector<Route> routes);
  std::size_t frames_out(int peer) const override;
  std::size_t frames_in(int peer) const override;
  bool next(int peer, Frame& frame) override;
  void sent(int, const Frame&) override {}
  Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) override;
  void arrived(int peer, std::uint32_t, std::uint32_t) override { arrived_[static_cast<std::size_t>(peer)] += 1; }

 private:
  const Route& route(int peer) const { return routes_[static_cast<std::size_t>(peer)]; }

  const std::vector<Route> routes_;
  std::vector<std::size_t> taken_, arrived_;  // chunks, by peer
};

}  // namespace raylite

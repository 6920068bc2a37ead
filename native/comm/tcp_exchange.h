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

constexpr std::size_t kChunkFloats = 64 << 10;  // 256 KiB

enum Phase : std::uint32_t { kContribution = 0, kResult = 1 };

struct Frame {
  std::uint32_t phase;
  std::uint32_t chunk;
  const float* data;
  std::size_t floats;
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
  virtual Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t floats, float*& to) = 0;
  virtual void arrived(int peer, std::uint32_t phase, std::uint32_t chunk) = 0;
};

/// Room for the chunks of all peers that wait to be summed. Kept by the communicator from call to call.
class Scratch {
 public:
  static constexpr std::size_t kDepth = 4;  // chunks that a peer may be ahead of the slowest
  explicit Scratch(int size) : chunks_(static_cast<std::size_t>(size) * kDepth) {}
  float* at(int peer, std::size_t chunk) {
    std::vector<float>& place = chunks_[static_cast<std::size_t>(peer) * kDepth + chunk % kDepth];
    if (place.empty()) place.resize(kChunkFloats);
    return place.data();
  }

 private:
  std::vector<std::vector<float>> chunks_;
};

/// Everybody sends everything to everybody and sums by itself: all-reduce of little data or two ranks, and the barrier.
class FlatExchange final : public Exchange {
 public:
  FlatExchange(int rank, int size, float* data, std::size_t count, ReduceOp op, Scratch& scratch);
  std::size_t frames_out(int) const override { return chunks_; }
  std::size_t frames_in(int) const override { return chunks_; }
  bool next(int peer, Frame& frame) override;
  void sent(int peer, const Frame& frame) override;
  Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t floats, float*& to) override;
  void arrived(int peer, std::uint32_t phase, std::uint32_t chunk) override;

 private:
  std::size_t length_of(std::size_t chunk) const;
  void reduce_ready();

  const int rank_, size_;
  float* const data_;
  const std::size_t count_;
  const ReduceOp op_;
  Scratch& scratch_;
  const std::size_t chunks_;  // at least one, so that a barrier has a frame
  std::size_t reduced_ = 0;
  std::vector<std::size_t> taken_, sent_, arrived_;  // chunks, by peer
  std::vector<const float*> inputs_;
};

/// The data is cut into one slice per rank. Contribution phase: each slice goes to its rank, which sums it. Result phase:
/// each rank sends its slice to all. Reduce-scatter is the first phase, all-gather the second, all-reduce both.
class SliceExchange final : public Exchange {
 public:
  struct Phases {
    bool contribute, share;
  };
  /// Slices have `slice_count` elements; the last ones are cut to what `count` leaves.
  SliceExchange(int rank, int size, float* data, std::size_t count, std::size_t slice_count, Phases phases, ReduceOp op,
                Scratch& scratch);
  std::size_t frames_out(int peer) const override;
  std::size_t frames_in(int peer) const override;
  bool next(int peer, Frame& frame) override;
  void sent(int, const Frame&) override {}
  Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t floats, float*& to) override;
  void arrived(int peer, std::uint32_t phase, std::uint32_t chunk) override;

 private:
  std::size_t start_of(int slice) const;
  std::size_t length_of(int slice) const;
  std::size_t chunks_of(int slice) const;
  float* chunk_at(int slice, std::size_t chunk, std::size_t& floats) const;
  void reduce_ready();

  const int rank_, size_;
  float* const data_;
  const std::size_t count_, slice_count_;
  const Phases phases_;
  const ReduceOp op_;
  Scratch& scratch_;
  std::size_t ready_;  // chunks of the own slice that may be shared
  std::vector<std::size_t> contributed_, shared_, arrived_, results_;  // chunks, by peer
  std::vector<const float*> inputs_;
};

/// The root sends everything to everybody.
class BroadcastExchange final : public Exchange {
 public:
  BroadcastExchange(int rank, int size, float* data, std::size_t count, int root);
  std::size_t frames_out(int) const override { return rank_ == root_ ? chunks_ : 0; }
  std::size_t frames_in(int peer) const override { return peer == root_ ? chunks_ : 0; }
  bool next(int peer, Frame& frame) override;
  void sent(int, const Frame&) override {}
  Place place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t floats, float*& to) override;
  void arrived(int, std::uint32_t, std::uint32_t) override { arrived_ += 1; }

 private:
  std::size_t length_of(std::size_t chunk) const;

  const int rank_, root_;
  float* const data_;
  const std::size_t count_, chunks_;
  std::size_t arrived_ = 0;
  std::vector<std::size_t> taken_;
};

}  // namespace raylite

// Collectives of one group of ranks, in a fixed order of ranks: the same inputs give the same bits on every rank.
// Calls block the calling thread; one call at a time per communicator. A rank that ends or is late makes every peer's
// call throw CommError naming it. Siblings: shared memory (one machine), TCP (between machines).
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace raylite {

class CommError : public std::runtime_error {
 public:
  CommError(const std::string& message, int rank) : std::runtime_error(message), rank_(rank) {}
  int rank() const { return rank_; }  // the late or dead one; -1 when unknown

 private:
  int rank_;
};

enum class ReduceOp { kSum, kMax };

/// What is reduced. 16-bit numbers are summed in f32 over all ranks, and rounded once.
enum class Number : std::uint32_t { kF32, kBF16, kF16 };

constexpr std::size_t width_of(Number number) { return number == Number::kF32 ? 4 : 2; }

/// What one rank sends to one peer and takes from one peer (the same or another) at a time. Peer -1: nothing.
struct Transfer {
  const void* send = nullptr;
  std::size_t send_bytes = 0;
  int to = -1;
  void* receive = nullptr;
  std::size_t receive_bytes = 0;
  int from = -1;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::uint64_t bytes_sent() const = 0;
  virtual void all_reduce(void* data, std::size_t count, Number number, ReduceOp op) = 0;
  /// data: [size * slice_count]; afterwards slice `rank` of it holds the sum of that slice over all ranks.
  virtual void reduce_scatter(void* data, std::size_t slice_count, Number number) = 0;
  /// data: [size * slice_bytes]; slice `rank` of it is sent to all.
  virtual void all_gather(void* data, std::size_t slice_bytes) = 0;
  /// in, out: [size * slice_bytes], apart. Slice p of `in` goes to rank p, where it is slice `rank` of `out`.
  virtual void all_to_all(const void* in, void* out, std::size_t slice_bytes) = 0;
  virtual void broadcast(void* data, std::size_t bytes, int root) = 0;
  /// Concerns the peers named alone. Both sides of a transfer give the same number of bytes, and make their transfers with
  /// each other in the same order. Sending may wait until the peer receives.
  virtual void send_receive(const Transfer& transfer) = 0;
  virtual void barrier() = 0;
  /// Makes pending and later calls of every rank throw. Safe from any thread.
  virtual void abort(const std::string& reason) noexcept = 0;
};

}  // namespace raylite

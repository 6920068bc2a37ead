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

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::uint64_t bytes_sent() const = 0;
  virtual void all_reduce(float* data, std::size_t count, ReduceOp op) = 0;
  /// data: [size * slice_count]; afterwards data[rank * slice_count ...] holds the sum of that slice over all ranks.
  virtual void reduce_scatter(float* data, std::size_t slice_count) = 0;
  /// data: [size * slice_count]; slice `rank` of it is sent to all.
  virtual void all_gather(float* data, std::size_t slice_count) = 0;
  virtual void broadcast(float* data, std::size_t count, int root) = 0;
  virtual void barrier() = 0;
  /// Makes pending and later calls of every rank throw. Safe from any thread.
  virtual void abort(const std::string& reason) noexcept = 0;
};

}  // namespace raylite

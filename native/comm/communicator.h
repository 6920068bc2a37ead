// Collectives of one group of ranks, in a fixed order of ranks: the same inputs give the same bits on every rank.
// Calls block the calling thread; one call at a time per communicator. A rank that ends or is late makes every peer's
// call throw CommError naming it. Siblings: shared memory (one machine), TCP (between machines), hierarchical (both).
//
// Messages and errors name ranks by their numbers in the job; arguments are places in the group.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "comm/standing.h"

namespace raylite {

struct Signature;

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

/// Of a message one way.
inline Transfer transfer_of(void* data, std::size_t bytes, int peer, bool is_sent) {
  return is_sent ? Transfer{data, bytes, peer, nullptr, 0, -1} : Transfer{nullptr, 0, -1, data, bytes, peer};
}

/// The calls themselves: made at once on memory of the host (Communicator), or put on a stream of a device.
class Collectives {
 public:
  virtual ~Collectives() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
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
  /// Moves bytes of this rank, before or behind a call.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
};

class Communicator : public Collectives {
 public:
  /// `names[r]` is the number in the job of rank r; none: r itself.
  explicit Communicator(std::vector<int> names) : names_(std::move(names)) {}
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual std::uint64_t bytes_sent() const = 0;
  void copy(void* to, const void* from, std::size_t bytes) final { std::memcpy(to, from, bytes); }

  // Safe from any thread, during a call too.
  /// Makes pending and later calls of every rank throw `error`. The first error of a group stays.
  virtual void fail_all(const CommError& error) noexcept = 0;
  /// The same where this rank is the one that gives up.
  void abort(const std::string& reason) noexcept {
    fail_all(CommError(rank_name(rank()) + " aborted the group: " + reason, name(rank())));
  }
  /// Throws the error of the group, if there is one.
  virtual void check() = 0;
  /// Tells the peers that this process runs, and where it stands, and looks at theirs: fails all when one has ended or stands still,
  /// and throws as check() does. To be called every kBeatMs; peers that never did are not judged.
  virtual void watch(const Standing& own) = 0;
  static constexpr int kBeatMs = 250;
  static constexpr int kBeatsMissed = 14;  // own beats without one of a peer: it stands still. 3.5 s

  /// Where the calls come from, for messages; for the thread that calls. `place` stays the caller's.
  virtual void set_place(const char* place) { place_ = place; }

  // Who lets whom wait; from any thread too.
  /// Where this rank stands in the group.
  Standing standing(bool is_waiting) const;
  /// The call that it is in, if it is in one.
  std::optional<CallUnderWay> call() const;
  /// Who lets this rank wait in the call that it is in, if that can be said: peers that are behind it and do not wait themselves.
  std::optional<Late> late() const;
  /// What only the device knows, told from time to time: how many calls it has begun, and which it is in (empty: in none).
  void device_stands_at(std::uint32_t calls, const std::string& place);
  int name(int rank) const { return names_.empty() ? rank : names_[static_cast<std::size_t>(rank)]; }
  std::string rank_name(int rank) const { return "rank " + std::to_string(name(rank)); }

 protected:
  const char* place() const { return place_; }
  /// As it last told; known: it has, and is still there.
  virtual Standing standing_of(int peer) const = 0;
  /// Counts a call, for as long as it lasts. `what` is the caller's meanwhile; to and from: the peers of a transfer.
  class Entered {
   public:
    Entered(Communicator& group, const Signature& what, int to = -1, int from = -1);
    ~Entered();
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

   private:
    Communicator& group_;
  };
  /// Calls of a part of another group are that one's.
  void belong_to(const Communicator& whole) { whole_ = &whole; }
  /// The rank to blame, by its number in the job, when a time limit is over by `over_ms`: who is late, else the one of place
  /// `suspect`. -1: for a moment nobody, since those waited for wait themselves, and their own limits end first.
  int blamed(int suspect, double over_ms) const;

 private:
  using Moment = std::chrono::steady_clock::time_point;
  const std::vector<int> names_;
  const char* place_ = "";
  const Communicator* whole_ = nullptr;

  mutable std::mutex calls_mutex_;  // for all that follows
  std::uint32_t host_calls_ = 0, device_calls_ = 0;
  const Signature* what_ = nullptr;  // of the host's call under way
  const char* host_place_ = "";
  int to_ = -1, from_ = -1;
  Moment host_since_;
  std::string device_place_;  // of the device's; empty: none
  Moment device_since_;
};

}  // namespace raylite

// The memory that the ranks of one machine share: counters they wait on, and staging areas they read from each other.
//
// Life of a segment: the first rank to come creates the file, the last one removes its name; the memory stays until all
// have left. Each rank holds a lock on "its" byte of the file for as long as it lives. The kernel drops the lock when
// the process ends in whatever way, so that asking for the lock tells the dead from the slow, with no pid to be reused.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/join.h"
#include "comm/signature.h"

namespace raylite {

/// A counter that only grows, and whoever sleeps until it does. Compared as a signed difference: it may wrap.
struct alignas(64) Counter {
  std::atomic<std::uint32_t> value;
  std::atomic<std::uint32_t> sleepers;

  bool reached(std::uint32_t target) const {
    return static_cast<std::int32_t>(value.load(std::memory_order_acquire) - target) >= 0;
  }
  void advance(std::uint32_t to);
  void wake_all();
  void ring();
  /// Sleeps until the counter moves from below `target`, at most `milliseconds`.
  void sleep_below(std::uint32_t target, int milliseconds);
};

class ShmSegment {
 public:
  static constexpr std::uint32_t kSlots = 4;               // chunks of one rank under way at once
  static constexpr std::size_t kSlotBytes = 256 << 10;     // a chunk stays in the second-level cache

  struct Member {
    Counter posted;    // chunks staged for the others to read
    Counter reduced;   // chunks of which this rank's part is summed
    Counter consumed;  // chunks read from all others, so that their slots may be used again
    Counter bell;      // rung by peers whenever a lane from or to this rank moves
    std::atomic<std::uint32_t> has_joined;
    std::atomic<std::uint32_t> has_left;
    std::atomic<std::uint32_t> beats;  // 0: nobody watches for this rank
    // of a Standing, as of the last beat
    std::atomic<std::uint32_t> host_calls, device_calls, is_waiting;
  };
  struct Slot {
    Signature signature;
    alignas(64) std::uint8_t data[kSlotBytes];
  };
  /// What one rank sends to one other alone, in slots of the sender.
  struct alignas(64) Lane {
    std::atomic<std::uint32_t> posted;    // chunks, by the sender
    std::atomic<std::uint32_t> consumed;  // by the receiver
    std::uint32_t slots[kSlots];          // where chunk n lies, at n % kSlots
  };

  /// Joins the group `name`; returns when all ranks have. Throws CommError naming the ranks that did not come.
  ShmSegment(const std::string& name, const JoinOptions& options);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;

  /// Bytes of the segment of `size` ranks, which each of them maps.
  static std::size_t bytes_of(int size);

  Member& member(int rank) const;
  Slot& slot(int rank, std::uint32_t sequence) const;
  Lane& lane(int from, int to) const;
  /// False once the process of `rank` has ended or left the group.
  bool is_alive(int rank) const;
  bool has_left(int rank) const { return member(rank).has_left.load(std::memory_order_acquire) != 0; }
  /// The first caller's reason stays; everybody is woken.
  void abort(int rank, const std::string& reason) noexcept;
  /// Throws the reason of abort(), if there was one.
  void check_abort() const;

 private:
  struct Header;
  bool create();
  bool open();
  void map(std::size_t bytes);
  void wait_for_all(const JoinOptions& options, const Deadline& deadline);
  bool try_lock(int rank) const;
  void unlink() noexcept;
  void release() noexcept;

  std::string path_;
  int file_ = -1;
  int rank_;
  int size_;
  std::size_t bytes_ = 0;
  Header* header_ = nullptr;
};

}  // namespace raylite

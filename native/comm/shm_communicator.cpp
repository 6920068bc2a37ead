// Every collective is a row of chunks, and every chunk goes through the same stages, several chunks under way at once:
//
//   stage    copy this rank's part of the chunk into its slot            then posted   += 1
//   reduce   (by parts only) sum this rank's part over all slots         then reduced  += 1
//   collect  read what the others staged (or summed)                     then consumed += 1
//
// A slot is written again only after every peer consumed what it held. With two ranks, or little data, each rank sums the
// whole chunk ("at once": one wait); else each sums one part for all ("by parts": two waits, 1/size of the additions).
// Sums run over the ranks from 0 upwards in either way, so that all ranks, ways and siblings give the same bits.
#include "comm/shm_communicator.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "comm/reduce.h"

namespace raylite {

namespace {

constexpr std::size_t kSlotBytes = ShmSegment::kSlotBytes;
constexpr std::size_t kAtOnceBytes = 16 << 10;  // up to here a second wait costs more than the additions it saves
constexpr int kNapMs = 10;                      // between two looks at whether a peer still lives

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spinning answers within a microsecond, but only where every rank has a core of its own to spin on.
std::chrono::microseconds spin_time(int size) {
  cpu_set_t cpus;
  const int cores = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
  return std::chrono::microseconds(size <= cores ? 50 : 0);
}

std::size_t chunks_of(std::size_t bytes, std::size_t per_chunk) { return (bytes + per_chunk - 1) / per_chunk; }

std::size_t index_of(int rank) { return static_cast<std::size_t>(rank); }

}  // namespace

ShmCommunicator::ShmCommunicator(const std::string& name, const JoinOptions& options)
    : Communicator(options.names),
      segment_(name, options),
      rank_(options.rank),
      size_(options.size),
      operation_timeout_ms_(options.operation_timeout_ms),
      spin_max_(spin_time(options.size)),
      spin_(spin_max_),
      inputs_(index_of(options.size)),
      pulses_(index_of(options.size)) {}

// stage(chunk, slot data); reduce(chunk, sequence), or nullptr where nothing is summed by parts; collect(chunk, sequence).
template <typename Stage, typename Reduce, typename Collect>
void ShmCommunicator::run(const Signature& signature, std::size_t chunks, Stage stage, Reduce reduce, Collect collect) {
  constexpr bool by_parts = !std::is_same_v<Reduce, std::nullptr_t>;
  // How many chunks later a stage runs than the one before it: time for the peers to do theirs.
  const std::size_t collect_lag = chunks == 1 ? 0 : by_parts ? 2 : 1;
  const std::size_t reduce_lag = chunks == 1 ? 0 : 1;
  segment_.check_abort();
  const Entered entered(*this, signature);
  current_ = signature;
  take_slots_back();
  Member& self = segment_.member(rank_);
  for (std::size_t step = 0; step < chunks + collect_lag; ++step) {
    if (step < chunks) {
      const auto sequence = sequence_ + static_cast<std::uint32_t>(step);
      wait_for_peers(&Member::consumed, sequence + 1 - ShmSegment::kSlots);
      ShmSegment::Slot& slot = segment_.slot(rank_, sequence);
      slot.signature = signature;
      stage(step, slot.data);
      self.posted.advance(sequence + 1);
    }
    if constexpr (by_parts) {
      if (step >= reduce_lag && step - reduce_lag < chunks) {
        const auto sequence = sequence_ + static_cast<std::uint32_t>(step - reduce_lag);
        wait_for_peers(&Member::posted, sequence + 1);
        reduce(step - reduce_lag, sequence);
        self.reduced.advance(sequence + 1);
      }
    }
    if (step >= collect_lag) {
      const auto sequence = sequence_ + static_cast<std::uint32_t>(step - collect_lag);
      wait_for_peers(by_parts ? &Member::reduced : &Member::posted, sequence + 1);
      for (int peer = 0; peer < size_; ++peer) {
        expect_same(peer, segment_.slot(peer, sequence).signature, signature);
      }
      collect(step - collect_lag, sequence);
      self.consumed.advance(sequence + 1);
    }
  }
  sequence_ += static_cast<std::uint32_t>(chunks);
}

void ShmCommunicator::all_reduce(void* data, std::size_t count, Number number, ReduceOp op) {
  const std::lock_guard<std::mutex> lock(one_call_);
  auto* bytes = static_cast<std::uint8_t*>(data);
  if (size_ <= 2 || count * width_of(number) <= kAtOnceBytes) return all_reduce_at_once(bytes, count, number, op);
  all_reduce_by_parts(bytes, count, number, op);
}

void ShmCommunicator::all_reduce_at_once(std::uint8_t* data, std::size_t count, Number number, ReduceOp op) {
  const std::size_t width = width_of(number), bytes = count * width;
  run(Signature::all_reduce(count, number, op), chunks_of(bytes, kSlotBytes),
      [&](std::size_t chunk, std::uint8_t* slot) {
        const Range range(chunk, kSlotBytes, bytes);
        std::memcpy(slot, data + range.start, range.length);
        count_sent(range.length);
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, kSlotBytes, bytes);
        for (int rank = 0; rank < size_; ++rank) {
          inputs_[index_of(rank)] = rank == rank_ ? data + range.start : staged(rank, sequence);
        }
        reduce_in_order(data + range.start, inputs_.data(), size_, range.length / width, number, op);
      });
}

void ShmCommunicator::all_reduce_by_parts(std::uint8_t* data, std::size_t count, Number number, ReduceOp op) {
  const std::size_t width = width_of(number), bytes = count * width;
  const std::size_t part_bytes = part_of_slot();
  const std::size_t chunk_bytes = part_bytes * index_of(size_);
  run(Signature::all_reduce(count, number, op), chunks_of(bytes, chunk_bytes),
      [&](std::size_t chunk, std::uint8_t* slot) {
        const Range range(chunk, chunk_bytes, bytes);
        std::memcpy(slot, data + range.start, range.length);
        count_sent(range.length);
      },
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, chunk_bytes, bytes);
        const Range part(index_of(rank_), part_bytes, range.length);
        for (int rank = 0; rank < size_; ++rank) inputs_[index_of(rank)] = staged(rank, sequence) + part.start;
        // Into this rank's own slot: nobody else reads that part of it before the sum is there.
        std::uint8_t* sum = segment_.slot(rank_, sequence).data + part.start;
        reduce_in_order(sum, inputs_.data(), size_, part.length / width, number, op);
        count_sent(part.length);
      },
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, chunk_bytes, bytes);
        for (int rank = 0; rank < size_; ++rank) {
          const Range part(index_of(rank), part_bytes, range.length);
          std::memcpy(data + range.start + part.start, staged(rank, sequence) + part.start, part.length);
        }
      });
}

void ShmCommunicator::reduce_scatter(void* whole, std::size_t slice_count, Number number) {
  const std::lock_guard<std::mutex> lock(one_call_);
  auto* data = static_cast<std::uint8_t*>(whole);
  const std::size_t width = width_of(number), slice_bytes = slice_count * width;
  const std::size_t part_bytes = part_of_slot();
  std::uint8_t* own = data + index_of(rank_) * slice_bytes;
  run(Signature::reduce_scatter(slice_count, number), chunks_of(slice_bytes, part_bytes),
      [&](std::size_t chunk, std::uint8_t* slot) { stage_parts(Range(chunk, part_bytes, slice_bytes), data, slice_bytes, slot); },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, part_bytes, slice_bytes);
        for (int rank = 0; rank < size_; ++rank) {
          inputs_[index_of(rank)] =
              rank == rank_ ? own + range.start : staged(rank, sequence) + index_of(rank_) * part_bytes;
        }
        reduce_in_order(own + range.start, inputs_.data(), size_, range.length / width, number, ReduceOp::kSum);
      });
}

void ShmCommunicator::all_to_all(const void* in, void* out, std::size_t slice_bytes) {
  const std::lock_guard<std::mutex> lock(one_call_);
  const auto* from = static_cast<const std::uint8_t*>(in);
  auto* to = static_cast<std::uint8_t*>(out);
  const std::size_t part_bytes = part_of_slot();
  const std::size_t own = index_of(rank_) * slice_bytes;
  run(Signature::all_to_all(slice_bytes), chunks_of(slice_bytes, part_bytes),
      [&](std::size_t chunk, std::uint8_t* slot) { stage_parts(Range(chunk, part_bytes, slice_bytes), from, slice_bytes, slot); },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, part_bytes, slice_bytes);
        for (int rank = 0; rank < size_; ++rank) {
          const std::uint8_t* part =
              rank == rank_ ? from + own + range.start : staged(rank, sequence) + index_of(rank_) * part_bytes;
          std::memcpy(to + index_of(rank) * slice_bytes + range.start, part, range.length);
        }
      });
}

void ShmCommunicator::add_up(const float* head, float* total, const void* whole, std::size_t stride, std::size_t count, Number number,
                             ReduceOp op) {
  const std::lock_guard<std::mutex> lock(one_call_);
  const auto* data = static_cast<const std::uint8_t*>(whole);
  const std::size_t width = width_of(number), slice_bytes = count * width;
  const std::size_t part_bytes = part_of_slot();
  run({Collective::kReduceScatter, static_cast<std::uint32_t>(op), number, 0, count}, chunks_of(slice_bytes, part_bytes),
      [&](std::size_t chunk, std::uint8_t* slot) { stage_parts(Range(chunk, part_bytes, slice_bytes), data, stride, slot); },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, part_bytes, slice_bytes);
        for (int rank = 0; rank < size_; ++rank) {
          inputs_[index_of(rank)] = rank == rank_ ? data + index_of(rank) * stride + range.start
                                                  : staged(rank, sequence) + index_of(rank_) * part_bytes;
        }
        const std::size_t start = range.start / width;
        reduce_onward(total + start, head ? head + start : nullptr, inputs_.data(), size_, range.length / width, number, op);
      });
}

/// Part p of the slot is for rank p: what `range` of slice p of `data` holds.
void ShmCommunicator::stage_parts(const Range& range, const std::uint8_t* data, std::size_t stride, std::uint8_t* slot) {
  const std::size_t part_bytes = part_of_slot();
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    std::memcpy(slot + index_of(rank) * part_bytes, data + index_of(rank) * stride + range.start, range.length);
  }
  count_sent(range.length * index_of(size_ - 1));
}

void ShmCommunicator::all_gather(void* whole, std::size_t slice_bytes) {
  const std::lock_guard<std::mutex> lock(one_call_);
  auto* data = static_cast<std::uint8_t*>(whole);
  run(Signature::all_gather(slice_bytes), chunks_of(slice_bytes, kSlotBytes),
      [&](std::size_t chunk, std::uint8_t* slot) {
        const Range range(chunk, kSlotBytes, slice_bytes);
        std::memcpy(slot, data + index_of(rank_) * slice_bytes + range.start, range.length);
        count_sent(range.length);
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, kSlotBytes, slice_bytes);
        for (int rank = 0; rank < size_; ++rank) {
          if (rank == rank_) continue;
          std::memcpy(data + index_of(rank) * slice_bytes + range.start, staged(rank, sequence), range.length);
        }
      });
}

void ShmCommunicator::broadcast(void* whole, std::size_t bytes, int root) {
  const std::lock_guard<std::mutex> lock(one_call_);
  auto* data = static_cast<std::uint8_t*>(whole);
  run(Signature::broadcast(bytes, root), chunks_of(bytes, kSlotBytes),
      [&](std::size_t chunk, std::uint8_t* slot) {
        if (rank_ != root) return;
        const Range range(chunk, kSlotBytes, bytes);
        std::memcpy(slot, data + range.start, range.length);
        count_sent(range.length);
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        if (rank_ == root) return;
        const Range range(chunk, kSlotBytes, bytes);
        std::memcpy(data + range.start, staged(root, sequence), range.length);
      });
}

void ShmCommunicator::barrier() {
  const std::lock_guard<std::mutex> lock(one_call_);
  run(Signature::barrier(), 1, [](std::size_t, std::uint8_t*) {}, nullptr, [](std::size_t, std::uint32_t) {});
}

void ShmCommunicator::watch(const Standing& own) {
  segment_.check_abort();
  Member& self = segment_.member(rank_);
  self.host_calls.store(own.host, std::memory_order_relaxed);
  self.device_calls.store(own.device, std::memory_order_relaxed);
  self.is_waiting.store(own.is_waiting, std::memory_order_relaxed);
  self.beats.fetch_add(1, std::memory_order_release);
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_ || segment_.has_left(peer)) continue;
    if (!segment_.is_alive(peer) && !segment_.has_left(peer)) fail(peer, "the process of " + rank_name(peer) + " ended");
    if (pulses_[index_of(peer)].is_silent_at(segment_.member(peer).beats.load(std::memory_order_relaxed))) {
      fail(peer, stands_still(rank_name(peer)));
    }
  }
}

Standing ShmCommunicator::standing_of(int peer) const {
  const Member& other = segment_.member(peer);
  const bool is_known = other.beats.load(std::memory_order_acquire) != 0 && !segment_.has_left(peer);
  return {is_known, other.is_waiting.load(std::memory_order_relaxed) != 0, other.host_calls.load(std::memory_order_relaxed),
          other.device_calls.load(std::memory_order_relaxed)};
}

void ShmCommunicator::wait_for_peers(Counter Member::*counter, std::uint32_t target) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_ && !(segment_.member(peer).*counter).reached(target)) wait_for(peer, counter, target);
  }
}

void ShmCommunicator::wait_for(int peer, Counter Member::*which, std::uint32_t target) {
  Counter& counter = segment_.member(peer).*which;
  const auto start = Clock::now();
  while (Clock::now() - start < spin_) {
    for (int turn = 0; turn < 32; ++turn) {
      if (counter.reached(target)) return learn_from(start);
      pause_cpu();
    }
  }
  const Deadline deadline(operation_timeout_ms_);
  while (!counter.reached(target)) {
    counter.sleep_below(target, std::max(1, deadline.left_ms(kNapMs)));
    if (counter.reached(target)) break;
    const bool is_alive = segment_.is_alive(peer);
    if (counter.reached(target)) break;  // it may have left after its part
    if (!is_alive) fail_lost(peer);
    segment_.check_abort();
    if (deadline.expired()) fail_if_late(latest(), start);
  }
  learn_from(start);
}

/// Spinning pays where answers come within its time; where cores are busy with others, it only delays them.
void ShmCommunicator::learn_from(Clock::time_point start) {
  spin_ = Clock::now() - start < spin_max_ ? std::min(spin_max_, 2 * spin_) : std::max(spin_max_ / 64, spin_ / 2);
}

/// Only ever the peer waited for: where that one waits for another that ended, it finds out itself and says so to all.
void ShmCommunicator::fail_lost(int rank) {
  fail(rank, rank_name(rank) + " ended or left" + context());
}

/// The time limit is over.
void ShmCommunicator::fail_if_late(int suspect, Clock::time_point start) {
  const double waited_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  const int late = blamed(suspect, waited_ms - operation_timeout_ms_);
  if (late < 0) return;
  segment_.abort(late, "rank " + std::to_string(late) + " is late: nothing came from it for " + milliseconds(operation_timeout_ms_) + context());
  segment_.check_abort();
}

// The peer that has staged the fewest chunks: the others may be waiting for it too.
int ShmCommunicator::latest() const {
  int late = -1;
  std::uint32_t fewest = 0;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const std::uint32_t posted = segment_.member(peer).posted.value.load();
    if (late < 0 || static_cast<std::int32_t>(posted - fewest) < 0) {
      late = peer;
      fewest = posted;
    }
  }
  return late;
}

void ShmCommunicator::expect_same(int peer, const Signature& theirs, const Signature& ours) {
  if (theirs != ours) fail(peer, mismatch(rank_name(peer), theirs, rank_name(rank_), ours, place()));
}

/// What the call under way was doing, for messages.
std::string ShmCommunicator::context() const {
  const std::string where = *place() == '\0' ? "" : std::string(" at ") + place();
  return " while " + rank_name(rank_) + " waited for it in " + current_.text() + where;
}

void ShmCommunicator::fail(int rank, const std::string& reason) {
  segment_.abort(name(rank), reason);
  segment_.check_abort();  // an earlier reason stands, so that all ranks say the same
  throw CommError(reason, name(rank));
}

}  // namespace raylite

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

constexpr std::size_t kSlotFloats = ShmSegment::kSlotFloats;
constexpr std::size_t kAtOnceFloats = 4 << 10;  // up to here a second wait costs more than the additions it saves
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

std::size_t chunks_of(std::size_t count, std::size_t per_chunk) { return (count + per_chunk - 1) / per_chunk; }

/// The elements [start, start + length) of `count` that chunk `index` covers.
struct Range {
  Range(std::size_t index, std::size_t per_chunk, std::size_t count)
      : start(std::min(index * per_chunk, count)), length(std::min(per_chunk, count - start)) {}
  std::size_t start, length;
};

void copy_floats(float* to, const float* from, std::size_t count) { std::memcpy(to, from, count * sizeof(float)); }

}  // namespace

ShmCommunicator::ShmCommunicator(const std::string& name, const JoinOptions& options)
    : segment_(name, options),
      rank_(options.rank),
      size_(options.size),
      operation_timeout_ms_(options.operation_timeout_ms),
      spin_(spin_time(options.size)),
      inputs_(static_cast<std::size_t>(options.size)) {}

// stage(chunk, slot data); reduce(chunk, sequence), or nullptr where nothing is summed by parts; collect(chunk, sequence).
template <typename Stage, typename Reduce, typename Collect>
void ShmCommunicator::run(const Signature& signature, std::size_t chunks, Stage stage, Reduce reduce, Collect collect) {
  constexpr bool by_parts = !std::is_same_v<Reduce, std::nullptr_t>;
  // How many chunks later a stage runs than the one before it: time for the peers to do theirs.
  const std::size_t collect_lag = chunks == 1 ? 0 : by_parts ? 2 : 1;
  const std::size_t reduce_lag = chunks == 1 ? 0 : 1;
  segment_.check_abort();
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
        const Signature& theirs = segment_.slot(peer, sequence).signature;
        if (theirs != signature) fail(peer, mismatch(peer, theirs, rank_, signature));
      }
      collect(step - collect_lag, sequence);
      self.consumed.advance(sequence + 1);
    }
  }
  sequence_ += static_cast<std::uint32_t>(chunks);
}

void ShmCommunicator::all_reduce(float* data, std::size_t count, ReduceOp op) {
  const std::lock_guard<std::mutex> lock(one_call_);
  if (size_ <= 2 || count <= kAtOnceFloats) return all_reduce_at_once(data, count, op);
  all_reduce_by_parts(data, count, op);
}

void ShmCommunicator::all_reduce_at_once(float* data, std::size_t count, ReduceOp op) {
  run({Collective::kAllReduce, static_cast<std::uint32_t>(op), count}, chunks_of(count, kSlotFloats),
      [&](std::size_t chunk, float* slot) {
        const Range range(chunk, kSlotFloats, count);
        copy_floats(slot, data + range.start, range.length);
        count_sent(range.length);
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, kSlotFloats, count);
        for (int rank = 0; rank < size_; ++rank) {
          inputs_[static_cast<std::size_t>(rank)] = rank == rank_ ? data + range.start : staged(rank, sequence);
        }
        reduce_in_order(data + range.start, inputs_.data(), size_, range.length, op);
      });
}

void ShmCommunicator::all_reduce_by_parts(float* data, std::size_t count, ReduceOp op) {
  const std::size_t part_floats = kSlotFloats / static_cast<std::size_t>(size_);
  const std::size_t chunk_floats = part_floats * static_cast<std::size_t>(size_);
  run({Collective::kAllReduce, static_cast<std::uint32_t>(op), count}, chunks_of(count, chunk_floats),
      [&](std::size_t chunk, float* slot) {
        const Range range(chunk, chunk_floats, count);
        copy_floats(slot, data + range.start, range.length);
        count_sent(range.length);
      },
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, chunk_floats, count);
        const Range part(static_cast<std::size_t>(rank_), part_floats, range.length);
        for (int rank = 0; rank < size_; ++rank) {
          inputs_[static_cast<std::size_t>(rank)] = staged(rank, sequence) + part.start;
        }
        // Into this rank's own slot: nobody else reads that part of it before the sum is there.
        reduce_in_order(segment_.slot(rank_, sequence).data + part.start, inputs_.data(), size_, part.length, op);
        count_sent(part.length);
      },
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, chunk_floats, count);
        for (int rank = 0; rank < size_; ++rank) {
          const Range part(static_cast<std::size_t>(rank), part_floats, range.length);
          copy_floats(data + range.start + part.start, staged(rank, sequence) + part.start, part.length);
        }
      });
}

void ShmCommunicator::reduce_scatter(float* data, std::size_t slice_count) {
  const std::lock_guard<std::mutex> lock(one_call_);
  const std::size_t part_floats = kSlotFloats / static_cast<std::size_t>(size_);
  float* own = data + static_cast<std::size_t>(rank_) * slice_count;
  run({Collective::kReduceScatter, 0, slice_count}, chunks_of(slice_count, part_floats),
      [&](std::size_t chunk, float* slot) {
        const Range range(chunk, part_floats, slice_count);
        for (int rank = 0; rank < size_; ++rank) {
          if (rank == rank_) continue;
          const auto index = static_cast<std::size_t>(rank);
          copy_floats(slot + index * part_floats, data + index * slice_count + range.start, range.length);
        }
        count_sent(range.length * static_cast<std::size_t>(size_ - 1));
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, part_floats, slice_count);
        for (int rank = 0; rank < size_; ++rank) {
          inputs_[static_cast<std::size_t>(rank)] =
              rank == rank_ ? own + range.start : staged(rank, sequence) + static_cast<std::size_t>(rank_) * part_floats;
        }
        reduce_in_order(own + range.start, inputs_.data(), size_, range.length, ReduceOp::kSum);
      });
}

void ShmCommunicator::all_gather(float* data, std::size_t slice_count) {
  const std::lock_guard<std::mutex> lock(one_call_);
  run({Collective::kAllGather, 0, slice_count}, chunks_of(slice_count, kSlotFloats),
      [&](std::size_t chunk, float* slot) {
        const Range range(chunk, kSlotFloats, slice_count);
        copy_floats(slot, data + static_cast<std::size_t>(rank_) * slice_count + range.start, range.length);
        count_sent(range.length);
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        const Range range(chunk, kSlotFloats, slice_count);
        for (int rank = 0; rank < size_; ++rank) {
          if (rank == rank_) continue;
          copy_floats(data + static_cast<std::size_t>(rank) * slice_count + range.start, staged(rank, sequence),
                      range.length);
        }
      });
}

void ShmCommunicator::broadcast(float* data, std::size_t count, int root) {
  const std::lock_guard<std::mutex> lock(one_call_);
  run({Collective::kBroadcast, static_cast<std::uint32_t>(root), count}, chunks_of(count, kSlotFloats),
      [&](std::size_t chunk, float* slot) {
        if (rank_ != root) return;
        const Range range(chunk, kSlotFloats, count);
        copy_floats(slot, data + range.start, range.length);
        count_sent(range.length);
      },
      nullptr,
      [&](std::size_t chunk, std::uint32_t sequence) {
        if (rank_ == root) return;
        const Range range(chunk, kSlotFloats, count);
        copy_floats(data + range.start, staged(root, sequence), range.length);
      });
}

void ShmCommunicator::barrier() {
  const std::lock_guard<std::mutex> lock(one_call_);
  run({Collective::kBarrier, 0, 0}, 1, [](std::size_t, float*) {}, nullptr, [](std::size_t, std::uint32_t) {});
}

void ShmCommunicator::abort(const std::string& reason) noexcept {
  segment_.abort(rank_, "rank " + std::to_string(rank_) + " aborted the group: " + reason);
}

void ShmCommunicator::wait_for_peers(Counter Member::*counter, std::uint32_t target) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_ && !(segment_.member(peer).*counter).reached(target)) wait_for(peer, counter, target);
  }
}

void ShmCommunicator::wait_for(int peer, Counter Member::*which, std::uint32_t target) {
  Counter& counter = segment_.member(peer).*which;
  for (const auto until = Clock::now() + spin_; Clock::now() < until;) {
    for (int turn = 0; turn < 32; ++turn) {
      if (counter.reached(target)) return;
      pause_cpu();
    }
  }
  const Deadline deadline(operation_timeout_ms_);
  while (!counter.reached(target)) {
    counter.sleep_below(target, deadline.left_ms(kNapMs));
    if (counter.reached(target)) return;
    segment_.check_abort();
    // Only the peer waited for: where that one waits for another that ended, it finds out itself and says so to all.
    if (!segment_.is_alive(peer) && !counter.reached(target)) {
      fail(peer, "rank " + std::to_string(peer) + " ended or left during a collective");
    }
    if (deadline.expired() && !counter.reached(target)) {
      const int late = latest();
      fail(late, "rank " + std::to_string(late) + " is late: nothing came from it for " +
                     milliseconds(operation_timeout_ms_));
    }
  }
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

void ShmCommunicator::fail(int rank, const std::string& reason) {
  segment_.abort(rank, reason);
  segment_.check_abort();  // an earlier reason stands, so that all ranks say the same
  throw CommError(reason, rank);
}

}  // namespace raylite

#include "comm/tcp_exchange.h"

#include <algorithm>
#include <utility>

#include "comm/reduce.h"

namespace raylite {

namespace {

std::size_t index_of(int rank) { return static_cast<std::size_t>(rank); }

std::size_t chunks_in(std::size_t bytes) { return (bytes + kChunkBytes - 1) / kChunkBytes; }

}  // namespace

FlatExchange::FlatExchange(int rank, int size, std::uint8_t* data, std::size_t bytes, Number number, ReduceOp op,
                           Scratch& scratch)
    : rank_(rank),
      size_(size),
      data_(data),
      bytes_(bytes),
      number_(number),
      op_(op),
      scratch_(scratch),
      chunks_(std::max<std::size_t>(1, chunks_in(bytes))),
      taken_(index_of(size)),
      sent_(index_of(size)),
      arrived_(index_of(size)),
      inputs_(index_of(size)) {}

std::size_t FlatExchange::length_of(std::size_t chunk) const {
  return std::min(kChunkBytes, bytes_ - chunk * kChunkBytes);
}

bool FlatExchange::next(int peer, Frame& frame) {
  std::size_t& chunk = taken_[index_of(peer)];
  if (chunk == chunks_) return false;
  frame = {kContribution, static_cast<std::uint32_t>(chunk), data_ + chunk * kChunkBytes, length_of(chunk)};
  chunk += 1;
  return true;
}

void FlatExchange::sent(int peer, const Frame&) {
  sent_[index_of(peer)] += 1;
  reduce_ready();
}

Exchange::Place FlatExchange::place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) {
  if (phase != kContribution || chunk != arrived_[index_of(peer)] || bytes != length_of(chunk)) return Place::kWrong;
  if (chunk >= reduced_ + Scratch::kDepth) return Place::kLater;
  to = scratch_.at(peer, chunk);
  return Place::kReady;
}

void FlatExchange::arrived(int peer, std::uint32_t, std::uint32_t) {
  arrived_[index_of(peer)] += 1;
  reduce_ready();
}

// A chunk is overwritten by its sum, so that it must be with every peer as well as here from every peer.
void FlatExchange::reduce_ready() {
  for (; reduced_ < chunks_; ++reduced_) {
    std::uint8_t* own = data_ + reduced_ * kChunkBytes;
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_ && std::min(arrived_[index_of(peer)], sent_[index_of(peer)]) <= reduced_) return;
      inputs_[index_of(peer)] = peer == rank_ ? own : scratch_.at(peer, reduced_);
    }
    reduce_in_order(own, inputs_.data(), size_, length_of(reduced_) / width_of(number_), number_, op_);
  }
}

SliceExchange::SliceExchange(int rank, int size, std::uint8_t* data, std::size_t bytes, std::size_t slice_bytes, Phases phases,
                             Number number, ReduceOp op, Scratch& scratch)
    : rank_(rank),
      size_(size),
      data_(data),
      bytes_(bytes),
      slice_bytes_(slice_bytes),
      phases_(phases),
      number_(number),
      op_(op),
      scratch_(scratch),
      ready_(phases.contribute ? 0 : chunks_of(rank)),
      contributed_(index_of(size)),
      shared_(index_of(size)),
      arrived_(index_of(size)),
      results_(index_of(size)),
      inputs_(index_of(size)) {}

std::size_t SliceExchange::start_of(int slice) const { return std::min(index_of(slice) * slice_bytes_, bytes_); }

std::size_t SliceExchange::length_of(int slice) const { return std::min(slice_bytes_, bytes_ - start_of(slice)); }

std::size_t SliceExchange::chunks_of(int slice) const { return chunks_in(length_of(slice)); }

std::uint8_t* SliceExchange::chunk_at(int slice, std::size_t chunk, std::size_t& bytes) const {
  bytes = std::min(kChunkBytes, length_of(slice) - chunk * kChunkBytes);
  return data_ + start_of(slice) + chunk * kChunkBytes;
}

std::size_t SliceExchange::frames_out(int peer) const {
  return (phases_.contribute ? chunks_of(peer) : 0) + (phases_.share ? chunks_of(rank_) : 0);
}

std::size_t SliceExchange::frames_in(int peer) const {
  return (phases_.contribute ? chunks_of(rank_) : 0) + (phases_.share ? chunks_of(peer) : 0);
}

bool SliceExchange::next(int peer, Frame& frame) {
  std::size_t& shared = shared_[index_of(peer)];
  std::size_t& contributed = contributed_[index_of(peer)];
  // Results first: they are what lets the peer finish.
  const bool is_result = phases_.share && shared < ready_;
  if (!is_result && !(phases_.contribute && contributed < chunks_of(peer))) return false;
  std::size_t& chunk = is_result ? shared : contributed;
  frame.phase = is_result ? kResult : kContribution;
  frame.chunk = static_cast<std::uint32_t>(chunk);
  frame.data = chunk_at(is_result ? rank_ : peer, chunk, frame.bytes);
  chunk += 1;
  return true;
}

Exchange::Place SliceExchange::place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) {
  std::size_t due = 0;
  if (phase == kResult) {
    if (!phases_.share || chunk != results_[index_of(peer)] || chunk >= chunks_of(peer)) return Place::kWrong;
    // Straight into place: the peer could sum this chunk only after all of this rank's contribution had left.
    to = chunk_at(peer, chunk, due);
    return bytes == due ? Place::kReady : Place::kWrong;
  }
  if (phase != kContribution || !phases_.contribute || chunk != arrived_[index_of(peer)] || chunk >= chunks_of(rank_)) {
    return Place::kWrong;
  }
  chunk_at(rank_, chunk, due);
  if (bytes != due) return Place::kWrong;
  if (chunk >= ready_ + Scratch::kDepth) return Place::kLater;
  to = scratch_.at(peer, chunk);
  return Place::kReady;
}

void SliceExchange::arrived(int peer, std::uint32_t phase, std::uint32_t) {
  if (phase == kResult) {
    results_[index_of(peer)] += 1;
    return;
  }
  arrived_[index_of(peer)] += 1;
  reduce_ready();
}

void SliceExchange::reduce_ready() {
  for (; ready_ < chunks_of(rank_); ++ready_) {
    std::size_t bytes = 0;
    std::uint8_t* own = chunk_at(rank_, ready_, bytes);
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != rank_ && arrived_[index_of(peer)] <= ready_) return;
      inputs_[index_of(peer)] = peer == rank_ ? own : scratch_.at(peer, ready_);
    }
    reduce_in_order(own, inputs_.data(), size_, bytes / width_of(number_), number_, op_);
  }
}

DirectExchange::DirectExchange(std::vector<Route> routes)
    : routes_(std::move(routes)), taken_(routes_.size()), arrived_(routes_.size()) {}

std::size_t DirectExchange::frames_out(int peer) const {
  return route(peer).is_sent ? std::max<std::size_t>(1, chunks_in(route(peer).out_bytes)) : 0;
}

std::size_t DirectExchange::frames_in(int peer) const {
  return route(peer).is_received ? std::max<std::size_t>(1, chunks_in(route(peer).in_bytes)) : 0;
}

bool DirectExchange::next(int peer, Frame& frame) {
  std::size_t& chunk = taken_[index_of(peer)];
  if (chunk == frames_out(peer)) return false;
  const std::size_t start = chunk * kChunkBytes;
  const std::size_t bytes = std::min(kChunkBytes, route(peer).out_bytes - start);
  frame = {kResult, static_cast<std::uint32_t>(chunk), route(peer).out + start, bytes};
  chunk += 1;
  return true;
}

Exchange::Place DirectExchange::place(int peer, std::uint32_t phase, std::uint32_t chunk, std::size_t bytes, std::uint8_t*& to) {
  const std::size_t start = chunk * kChunkBytes;
  if (phase != kResult || chunk != arrived_[index_of(peer)] || chunk >= frames_in(peer) ||
      bytes != std::min(kChunkBytes, route(peer).in_bytes - start)) {
    return Place::kWrong;
  }
  to = route(peer).in + start;
  return Place::kReady;
}

}  // namespace raylite

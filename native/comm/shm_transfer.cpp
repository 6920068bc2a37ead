// What one rank sends to one other alone. Chunks lie in the sender's slots, as those of collectives do; a lane per pair says
// which. Nobody but the two takes part: whoever waits sleeps at its own bell, which the peers of its lanes ring.
#include <cstring>

#include "comm/shm_communicator.h"

namespace raylite {

namespace {

constexpr std::size_t kSlotBytes = ShmSegment::kSlotBytes;
constexpr int kNapMs = 10;

/// At least one, so that a transfer of nothing is still one that the peer waits for.
std::size_t chunks_of(std::size_t bytes) { return bytes == 0 ? 1 : (bytes + kSlotBytes - 1) / kSlotBytes; }

}  // namespace

void ShmCommunicator::send_receive(const Transfer& transfer) {
  const std::lock_guard<std::mutex> lock(one_call_);
  segment_.check_abort();
  current_ = Signature::transfer(transfer.from >= 0 ? transfer.receive_bytes : transfer.send_bytes);
  const Entered entered(*this, current_, transfer.to, transfer.from);
  // Slots of collectives before this: the peers empty them without further help.
  if (transfer.to >= 0) wait_for_peers(&Member::consumed, sequence_);
  const std::size_t to_send = transfer.to < 0 ? 0 : chunks_of(transfer.send_bytes);
  const std::size_t to_receive = transfer.from < 0 ? 0 : chunks_of(transfer.receive_bytes);
  for (std::size_t sent = 0, received = 0; sent < to_send || received < to_receive;) {
    const auto advance = [&] {
      const bool has_sent = sent < to_send && send_chunk(transfer, sent);
      const bool has_received = received < to_receive && receive_chunk(transfer, received);
      sent += has_sent;
      received += has_received;
      return has_sent || has_received;
    };
    if (!advance()) wait_for_bell(received < to_receive ? transfer.from : transfer.to, advance);
  }
}

bool ShmCommunicator::send_chunk(const Transfer& transfer, std::size_t chunk) {
  const std::uint32_t index = transfers_ % ShmSegment::kSlots;
  if (!is_free(lent_[index])) return false;
  const Range range(chunk, kSlotBytes, transfer.send_bytes);
  ShmSegment::Slot& slot = segment_.slot(rank_, index);
  slot.signature = Signature::transfer(transfer.send_bytes);
  if (range.length > 0) std::memcpy(slot.data, static_cast<const std::uint8_t*>(transfer.send) + range.start, range.length);
  Lane& lane = segment_.lane(rank_, transfer.to);
  const std::uint32_t posted = lane.posted.load(std::memory_order_relaxed);
  lane.slots[posted % ShmSegment::kSlots] = index;
  lane.posted.store(posted + 1, std::memory_order_release);
  segment_.member(transfer.to).bell.ring();
  lent_[index] = {transfer.to, posted + 1};
  transfers_ += 1;
  count_sent(range.length);
  return true;
}

bool ShmCommunicator::receive_chunk(const Transfer& transfer, std::size_t chunk) {
  Lane& lane = segment_.lane(transfer.from, rank_);
  const std::uint32_t consumed = lane.consumed.load(std::memory_order_relaxed);
  if (lane.posted.load(std::memory_order_acquire) == consumed) return false;
  const ShmSegment::Slot& slot = segment_.slot(transfer.from, lane.slots[consumed % ShmSegment::kSlots]);
  const Signature expected = Signature::transfer(transfer.receive_bytes);
  expect_same(transfer.from, slot.signature, expected);
  const Range range(chunk, kSlotBytes, transfer.receive_bytes);
  if (range.length > 0) std::memcpy(static_cast<std::uint8_t*>(transfer.receive) + range.start, slot.data, range.length);
  lane.consumed.store(consumed + 1, std::memory_order_release);
  segment_.member(transfer.from).bell.ring();
  return true;
}

bool ShmCommunicator::is_free(const Lent& slot) const {
  if (slot.to < 0) return true;
  const std::uint32_t consumed = segment_.lane(rank_, slot.to).consumed.load(std::memory_order_acquire);
  return static_cast<std::int32_t>(consumed - slot.posted) >= 0;
}

/// Waits until no slot holds what a single peer has yet to read: collectives use them all.
void ShmCommunicator::take_slots_back() {
  for (Lent& slot : lent_) {
    if (!is_free(slot)) wait_for_bell(slot.to, [&] { return is_free(slot); });
    slot = {};
  }
}

/// Until `is_met`, which peers may change whenever they ring. `peer` is the one to suspect.
template <typename Condition>
void ShmCommunicator::wait_for_bell(int peer, Condition is_met) {
  Counter& bell = segment_.member(rank_).bell;
  const auto start = Clock::now();
  while (Clock::now() - start < spin_) {
    if (is_met()) return learn_from(start);
  }
  const Deadline deadline(operation_timeout_ms_);
  for (;;) {
    const std::uint32_t rung = bell.value.load(std::memory_order_seq_cst);
    const bool is_alive = segment_.is_alive(peer);
    if (is_met()) return learn_from(start);
    if (!is_alive) fail_lost(peer);
    segment_.check_abort();
    if (deadline.expired()) fail_if_late(peer, start);
    bell.sleep_below(rung + 1, std::max(1, deadline.left_ms(kNapMs)));
  }
}

}  // namespace raylite

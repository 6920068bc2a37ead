#include "comm/hierarchical_communicator.h"

#include <algorithm>

#include "comm/reduce.h"

namespace raylite {

namespace {

constexpr std::size_t kChunkNumbers = 64 << 10;  // of a lane, on its way from machine to machine
constexpr std::size_t kFlatBytes = 32 << 10;     // up to here one round trip between all ranks is the fastest

JoinOptions options_inside(const JoinOptions& options, int per_machine) {
  JoinOptions inside = options;
  const int first = options.rank / per_machine * per_machine;
  inside.rank = options.rank - first;
  inside.size = per_machine;
  inside.names.clear();
  for (int rank = first; rank < first + per_machine; ++rank) {
    inside.names.push_back(options.names.empty() ? rank : options.names[static_cast<std::size_t>(rank)]);
  }
  return inside;
}

}  // namespace

HierarchicalCommunicator::HierarchicalCommunicator(const std::string& name, int machines, const TcpListener& listener,
                                                   const std::vector<std::string>& addresses, const std::string& secret,
                                                   const JoinOptions& options)
    : Communicator(options.names),
      rank_(options.rank),
      machines_(machines),
      per_machine_(options.size / machines),
      machine_(options.rank / per_machine_),
      lane_(options.rank % per_machine_),
      inner_(std::make_unique<ShmCommunicator>(name + "." + std::to_string(machine_), options_inside(options, per_machine_))),
      between_(std::make_unique<TcpCommunicator>(listener, addresses, secret, options)),
      head_(kChunkNumbers),
      total_(kChunkNumbers) {
  inner_->belong_to(*this);
  between_->belong_to(*this);
}

/// Both parts fail together, whichever fails first.
template <typename Call>
void HierarchicalCommunicator::guarded(Call call) {
  try {
    call();
  } catch (const CommError& error) {
    fail_all(error);
    throw;
  }
}

template <typename Call>
void HierarchicalCommunicator::entered(const Signature& signature, Call call, int to, int from) {
  const Entered entered(*this, signature, to, from);
  guarded(call);
}

// Slice l of `data` (at l * stride, of `count` numbers) is lane l's. Afterwards the last machine has the sums there; on the others
// the slices are scratch.
void HierarchicalCommunicator::sum_over_machines(std::uint8_t* data, std::size_t stride, std::size_t count, Number number,
                                                 ReduceOp op) {
  const std::size_t width = width_of(number);
  for (std::size_t start = 0; start < count; start += kChunkNumbers) {
    const std::size_t length = std::min(kChunkNumbers, count - start);
    Transfer transfer;
    if (machine_ > 0) {
      transfer.receive = head_.data();
      transfer.receive_bytes = length * sizeof(float);
      transfer.from = rank_ - per_machine_;
      between_->send_receive(transfer);
    }
    inner_->add_up(machine_ > 0 ? head_.data() : nullptr, total_.data(), data + start * width, stride, length, number, op);
    if (is_last_machine()) {
      round_to(data + static_cast<std::size_t>(lane_) * stride + start * width, total_.data(), length, number);
      continue;
    }
    transfer = {total_.data(), length * sizeof(float), rank_ + per_machine_, nullptr, 0, -1};
    between_->send_receive(transfer);
  }
}

void HierarchicalCommunicator::all_reduce(void* whole, std::size_t count, Number number, ReduceOp op) {
  entered(Signature::all_reduce(count, number, op), [&] {
    const std::size_t width = width_of(number), lanes = static_cast<std::size_t>(per_machine_);
    auto* data = static_cast<std::uint8_t*>(whole);
    if (count * width <= kFlatBytes) return between_->all_reduce(data, count, number, op);
    const std::size_t slice = count / lanes, slice_bytes = slice * width;
    if (slice * lanes < count) between_->all_reduce(data + lanes * slice_bytes, count - lanes * slice, number, op);
    sum_over_machines(data, slice_bytes, slice, number, op);
    std::vector<DirectExchange::Route> routes = no_routes();
    std::uint8_t* own = data + static_cast<std::size_t>(lane_) * slice_bytes;
    for (int machine = 0; machine < machines_ - 1 && is_last_machine(); ++machine) routes[at(machine)] = {own, slice_bytes, true};
    if (!is_last_machine()) routes[at(machines_ - 1)] = {nullptr, 0, false, own, slice_bytes, true};
    between_->move(Signature::transfer(slice_bytes), std::move(routes));
    inner_->all_gather(data, slice_bytes);
  });
}

void HierarchicalCommunicator::reduce_scatter(void* whole, std::size_t slice_count, Number number) {
  entered(Signature::reduce_scatter(slice_count, number), [&] {
    const std::size_t slice_bytes = slice_count * width_of(number);
    auto* data = static_cast<std::uint8_t*>(whole);
    for (int machine = 0; machine < machines_; ++machine) {
      std::uint8_t* block = data + static_cast<std::size_t>(machine * per_machine_) * slice_bytes;
      sum_over_machines(block, slice_bytes, slice_count, number, ReduceOp::kSum);
    }
    std::vector<DirectExchange::Route> routes = no_routes();
    for (int machine = 0; machine < machines_ - 1 && is_last_machine(); ++machine) {
      routes[at(machine)] = {data + at(machine) * slice_bytes, slice_bytes, true};
    }
    if (!is_last_machine()) routes[at(machines_ - 1)] = {nullptr, 0, false, data + at(machine_) * slice_bytes, slice_bytes, true};
    between_->move(Signature::transfer(slice_bytes), std::move(routes));
  });
}

void HierarchicalCommunicator::all_gather(void* whole, std::size_t slice_bytes) {
  entered(Signature::all_gather(slice_bytes), [&] {
    auto* data = static_cast<std::uint8_t*>(whole);
    std::vector<DirectExchange::Route> routes = no_routes();
    for (int machine = 0; machine < machines_; ++machine) {
      if (machine == machine_) continue;
      routes[at(machine)] = {data + at(machine_) * slice_bytes, slice_bytes, true, data + at(machine) * slice_bytes, slice_bytes, true};
    }
    between_->move(Signature::all_gather(slice_bytes), std::move(routes));
    for (int machine = 0; machine < machines_; ++machine) {
      inner_->all_gather(data + static_cast<std::size_t>(machine * per_machine_) * slice_bytes, slice_bytes);
    }
  });
}

void HierarchicalCommunicator::all_to_all(const void* in, void* out, std::size_t slice_bytes) {
  entered(Signature::all_to_all(slice_bytes), [&] {
    const auto* from = static_cast<const std::uint8_t*>(in);
    auto* to = static_cast<std::uint8_t*>(out);
    const std::size_t block = static_cast<std::size_t>(machine_ * per_machine_) * slice_bytes;
    inner_->all_to_all(from + block, to + block, slice_bytes);
    std::vector<DirectExchange::Route> routes = no_routes();
    for (int rank = 0; rank < size(); ++rank) {
      if (rank / per_machine_ == machine_) continue;
      const std::size_t start = static_cast<std::size_t>(rank) * slice_bytes;
      routes[static_cast<std::size_t>(rank)] = {from + start, slice_bytes, true, to + start, slice_bytes, true};
    }
    between_->move(Signature::all_to_all(slice_bytes), std::move(routes));
  });
}

void HierarchicalCommunicator::broadcast(void* whole, std::size_t bytes, int root) {
  entered(Signature::broadcast(bytes, root), [&] {
    auto* data = static_cast<std::uint8_t*>(whole);
    const int root_lane = root % per_machine_;
    if (lane_ == root_lane) {
      std::vector<DirectExchange::Route> routes = no_routes();
      for (int machine = 0; machine < machines_ && rank_ == root; ++machine) routes[at(machine)] = {data, bytes, machine != machine_};
      if (rank_ != root) routes[static_cast<std::size_t>(root)] = {nullptr, 0, false, data, bytes, machine_ != root / per_machine_};
      between_->move(Signature::broadcast(bytes, root), std::move(routes));
    }
    inner_->broadcast(data, bytes, root_lane);
  });
}

// What crosses goes first on every rank, so that no transfer inside a machine holds one up.
void HierarchicalCommunicator::send_receive(const Transfer& transfer) {
  const auto move = [&] {
    Transfer across = transfer, inside = transfer;
    const auto is_here = [this](int peer) { return peer / per_machine_ == machine_; };
    if (transfer.to >= 0) (is_here(transfer.to) ? across : inside).to = -1;
    if (transfer.from >= 0) (is_here(transfer.from) ? across : inside).from = -1;
    if (inside.to >= 0) inside.to %= per_machine_;
    if (inside.from >= 0) inside.from %= per_machine_;
    if (across.to >= 0 || across.from >= 0) between_->send_receive(across);
    if (inside.to >= 0 || inside.from >= 0) inner_->send_receive(inside);
  };
  const std::size_t bytes = transfer.from >= 0 ? transfer.receive_bytes : transfer.send_bytes;
  entered(Signature::transfer(bytes), move, transfer.to, transfer.from);
}

void HierarchicalCommunicator::barrier() {
  entered(Signature::barrier(), [&] { between_->barrier(); });
}

void HierarchicalCommunicator::fail_all(const CommError& error) noexcept {
  inner_->fail_all(error);
  between_->fail_all(error);
}

void HierarchicalCommunicator::check() {
  inner_->check();
  between_->check();
}

void HierarchicalCommunicator::watch(const Standing& own) {
  guarded([&] {
    inner_->watch(own);
    between_->watch(own);
  });
}

}  // namespace raylite

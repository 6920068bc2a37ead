// The contracts of the collectives, and their calls: the communicator does the work, whatever the instruction set. They block
// their thread inside it, the first of the team, and let its CommError through.
#include <cstring>
#include <functional>
#include <string>

#include "core/bind.h"

namespace raylite {

namespace {

struct CollectiveArguments {
  std::shared_ptr<Communicator> group;
  std::function<void(Communicator&)> call;
  std::string place;  // for messages
};

void run(const CollectiveArguments& a, const Team& team) {
  if (team.index != 0) return;
  a.group->set_place(a.place.c_str());
  a.call(*a.group);
}

constexpr Kernel<CollectiveArguments> kKernel{run, nullptr};

Bound bind_call(Binder& in, std::shared_ptr<Communicator> group, std::function<void(Communicator&)> call) {
  return bound(in, CollectiveArguments{std::move(group), std::move(call), in.place()}, kKernel);
}

std::size_t bytes_of(DType type, std::int64_t count) {
  return static_cast<std::size_t>(count) * (type == DType::kU8 ? 1 : type == DType::kBF16 || type == DType::kF16 ? 2 : 4);
}

Number number_of(DType type) {
  return type == DType::kBF16 ? Number::kBF16 : type == DType::kF16 ? Number::kF16 : Number::kF32;
}

void check_count(const Binder& in, const Communicator& group, std::int64_t whole_count, std::int64_t slice_count) {
  const std::int64_t size = group.size();
  if (whole_count == size * slice_count) return;
  in.fail_shape("the whole has " + std::to_string(whole_count) + " elements, expected " + std::to_string(size) +
                " slices of " + std::to_string(slice_count));
}

/// `slice` must be slice `rank` of `whole`.
void check_slice(const Binder& in, const Communicator& group, DType type, const void* whole, const void* slice,
                 std::int64_t slice_count) {
  const std::size_t offset = static_cast<std::size_t>(group.rank()) * bytes_of(type, slice_count);
  if (slice != static_cast<const std::uint8_t*>(whole) + offset) {
    in.fail_shape("the slice does not lie inside the whole at rank " + std::to_string(group.rank()));
  }
}

/// The attribute `name`: a rank of the group that is not this one.
int peer_of(Binder& in, const Communicator& group, const char* name) {
  const auto peer = static_cast<int>(in.integer(name, 0, group.size() - 1));
  if (peer == group.rank()) in.fail_shape(std::string("attribute \"") + name + "\" is this rank, " + std::to_string(peer));
  return peer;
}

}  // namespace

Bound bind_all_reduce(Binder& in, const Kernels&) {
  Dim n("n");
  const DType type = in.storage();
  const auto group = in.group("group");
  const ReduceOp op = in.integer("op", 0, 1) == 0 ? ReduceOp::kSum : ReduceOp::kMax;
  in.flat_input("x", n, type);
  void* x = in.flat_output("x", n, type);
  in.must_share("x", "x");
  in.finish();
  return bind_call(in, group, [=, count = static_cast<std::size_t>(n.value), number = number_of(type)](Communicator& ranks) {
    ranks.all_reduce(x, count, number, op);
  });
}

Bound bind_reduce_scatter(Binder& in, const Kernels&) {
  Dim whole("size*n"), n("n");
  const DType type = in.storage();
  const auto group = in.group("group");
  void* x = const_cast<void*>(in.flat_input("x", whole, type));  // the contract: its other slices are scratch afterwards
  const void* slice = in.flat_output("slice", n, type);
  in.may_overlap("x", "slice");
  in.finish();
  check_count(in, *group, whole.value, n.value);
  check_slice(in, *group, type, x, slice, n.value);
  return bind_call(in, group, [=, count = static_cast<std::size_t>(n.value), number = number_of(type)](Communicator& ranks) {
    ranks.reduce_scatter(x, count, number);
  });
}

Bound bind_all_gather(Binder& in, const Kernels&) {
  Dim whole("size*n"), n("n");
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  const void* slice = in.flat_input("slice", n, type);
  void* y = in.flat_output("y", whole, type);
  in.may_overlap("y", "slice");
  in.finish();
  check_count(in, *group, whole.value, n.value);
  const std::size_t bytes = bytes_of(type, n.value);
  auto* to = static_cast<std::uint8_t*>(y);
  const auto* from = static_cast<const std::uint8_t*>(slice);
  if (from + bytes <= to || to + bytes_of(type, whole.value) <= from) {
    return bind_call(in, group, [=](Communicator& ranks) {
      std::memcpy(to + static_cast<std::size_t>(ranks.rank()) * bytes, from, bytes);
      ranks.all_gather(y, bytes);
    });
  }
  check_slice(in, *group, type, y, slice, n.value);
  return bind_call(in, group, [=](Communicator& ranks) { ranks.all_gather(y, bytes); });
}

Bound bind_all_to_all(Binder& in, const Kernels&) {
  Dim n("size*n");
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  const void* x = in.flat_input("x", n, type);
  void* y = in.flat_output("y", n, type);
  in.finish();
  const std::int64_t size = group->size();
  if (n.value % size != 0) in.fail_shape(std::to_string(n.value) + " elements are not " + std::to_string(size) + " equal slices");
  return bind_call(in, group, [=, bytes = bytes_of(type, n.value / size)](Communicator& ranks) { ranks.all_to_all(x, y, bytes); });
}

Bound bind_broadcast(Binder& in, const Kernels&) {
  Dim n("n");
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  const auto root = static_cast<int>(in.integer("root", 0, group->size() - 1));
  in.flat_input("x", n, type);
  void* x = in.flat_output("x", n, type);
  in.must_share("x", "x");
  in.finish();
  return bind_call(in, group, [=, bytes = bytes_of(type, n.value)](Communicator& ranks) { ranks.broadcast(x, bytes, root); });
}

Bound bind_send(Binder& in, const Kernels&) {
  Dim n("n");
  Transfer transfer;
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  transfer.to = peer_of(in, *group, "to");
  transfer.send = in.flat_input("x", n, type);
  in.finish();
  transfer.send_bytes = bytes_of(type, n.value);
  return bind_call(in, group, [=](Communicator& ranks) { ranks.send_receive(transfer); });
}

Bound bind_recv(Binder& in, const Kernels&) {
  Dim n("n");
  Transfer transfer;
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  transfer.from = peer_of(in, *group, "from");
  in.flat_input("y", n, type);
  transfer.receive = in.flat_output("y", n, type);
  in.must_share("y", "y");
  in.finish();
  transfer.receive_bytes = bytes_of(type, n.value);
  return bind_call(in, group, [=](Communicator& ranks) { ranks.send_receive(transfer); });
}

Bound bind_send_recv(Binder& in, const Kernels&) {
  Dim n("n"), m("m");
  Transfer transfer;
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  transfer.to = peer_of(in, *group, "to");
  transfer.from = peer_of(in, *group, "from");
  transfer.send = in.flat_input("x", n, type);
  in.flat_input("y", m, type);
  transfer.receive = in.flat_output("y", m, type);
  in.must_share("y", "y");
  in.finish();
  transfer.send_bytes = bytes_of(type, n.value);
  transfer.receive_bytes = bytes_of(type, m.value);
  return bind_call(in, group, [=](Communicator& ranks) { ranks.send_receive(transfer); });
}

Bound bind_barrier(Binder& in, const Kernels&) {
  const auto group = in.group("group");
  in.finish();
  return bind_call(in, group, [](Communicator& ranks) { ranks.barrier(); });
}

}  // namespace raylite

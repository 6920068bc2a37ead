// The contracts of the collectives, and their calls: the communicator does the work, whatever the instruction set. They block
// their thread inside it, the first of the team, and let its CommError through.
#include "core/ops/collectives.h"

#include <functional>

#include "core/bind.h"

namespace raylite {

namespace {

bool call_on(const CollectiveArguments& a, void* in, void* out, CollectiveFailure& failure) {
  return succeeds(failure, [&] {
    a.group->set_place(a.place.c_str());
    a.call(*a.group, in, out);
  });
}

void run(const CollectiveArguments& a, const Team& team) {
  if (team.index != 0) return;
  a.group->set_place(a.place.c_str());
  a.call(*a.group, a.in.data, a.out.data);
}

constexpr Kernel<CollectiveArguments> kOnHost{run, nullptr};

Bound bind_call(Binder& in, const Kernels& kernels, std::shared_ptr<Communicator> group, CollectiveBytes from, CollectiveBytes to,
                std::function<void(Collectives&, void*, void*)> call) {
  const Kernel<CollectiveArguments>& kernel = kernels.collective.run == nullptr ? kOnHost : kernels.collective;
  return bound(in, CollectiveArguments{std::move(group), from, to, std::move(call), in.place(), call_on}, kernel);
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

Bound bind_all_reduce(Binder& in, const Kernels& kernels) {
  Dim n("n");
  const DType type = in.storage();
  const auto group = in.group("group");
  const ReduceOp op = in.integer("op", 0, 1) == 0 ? ReduceOp::kSum : ReduceOp::kMax;
  in.flat_input("x", n, type);
  const CollectiveBytes x{in.flat_output("x", n, type), bytes_of(type, n.value)};
  in.must_share("x", "x");
  in.finish();
  return bind_call(in, kernels, group, x, x, [op, count = static_cast<std::size_t>(n.value), number = number_of(type)](Collectives& ranks, void*, void* out) {
    ranks.all_reduce(out, count, number, op);
  });
}

Bound bind_reduce_scatter(Binder& in, const Kernels& kernels) {
  Dim whole("size*n"), n("n");
  const DType type = in.storage();
  const auto group = in.group("group");
  void* x = const_cast<void*>(in.flat_input("x", whole, type));  // the contract: its other slices are scratch afterwards
  void* slice = in.flat_output("slice", n, type);
  const std::size_t bytes = bytes_of(type, n.value);
  if (in.outputs_left() > 0) {  // all of x is scratch, and the slice lies elsewhere
    in.flat_output("x", whole, type);
    in.must_share("x", "x");
    in.finish();
    check_count(in, *group, whole.value, n.value);
    return bind_call(in, kernels, group, {x, bytes_of(type, whole.value)}, {slice, bytes},
                     [count = static_cast<std::size_t>(n.value), number = number_of(type), bytes](Collectives& ranks, void* data, void* own) {
                       ranks.reduce_scatter(data, count, number);
                       ranks.copy(own, static_cast<std::uint8_t*>(data) + static_cast<std::size_t>(ranks.rank()) * bytes, bytes);
                     });
  }
  in.may_overlap("x", "slice");
  in.finish();
  check_count(in, *group, whole.value, n.value);
  check_slice(in, *group, type, x, slice, n.value);
  return bind_call(in, kernels, group, {x, bytes_of(type, whole.value)}, {slice, bytes},
                   [count = static_cast<std::size_t>(n.value), number = number_of(type)](Collectives& ranks, void* data, void*) {
                     ranks.reduce_scatter(data, count, number);
                   });
}

Bound bind_all_gather(Binder& in, const Kernels& kernels) {
  Dim whole("size*n"), n("n");
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  void* slice = const_cast<void*>(in.flat_input("slice", n, type));
  void* y = in.flat_output("y", whole, type);
  in.may_overlap("y", "slice");
  in.finish();
  check_count(in, *group, whole.value, n.value);
  const std::size_t bytes = bytes_of(type, n.value);
  const CollectiveBytes from{slice, bytes}, to{y, bytes_of(type, whole.value)};
  const auto* begin = static_cast<const std::uint8_t*>(y);
  const auto* own = static_cast<const std::uint8_t*>(slice);
  if (own + bytes <= begin || begin + to.bytes <= own) {
    return bind_call(in, kernels, group, from, to, [bytes](Collectives& ranks, void* data, void* all) {
      ranks.copy(static_cast<std::uint8_t*>(all) + static_cast<std::size_t>(ranks.rank()) * bytes, data, bytes);
      ranks.all_gather(all, bytes);
    });
  }
  check_slice(in, *group, type, y, slice, n.value);
  return bind_call(in, kernels, group, from, to, [bytes](Collectives& ranks, void*, void* all) { ranks.all_gather(all, bytes); });
}

Bound bind_all_to_all(Binder& in, const Kernels& kernels) {
  Dim n("size*n");
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  void* x = const_cast<void*>(in.flat_input("x", n, type));
  void* y = in.flat_output("y", n, type);
  in.finish();
  const std::int64_t size = group->size();
  if (n.value % size != 0) in.fail_shape(std::to_string(n.value) + " elements are not " + std::to_string(size) + " equal slices");
  return bind_call(in, kernels, group, {x, bytes_of(type, n.value)}, {y, bytes_of(type, n.value)},
                   [bytes = bytes_of(type, n.value / size)](Collectives& ranks, void* from, void* to) { ranks.all_to_all(from, to, bytes); });
}

Bound bind_broadcast(Binder& in, const Kernels& kernels) {
  Dim n("n");
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  const auto root = static_cast<int>(in.integer("root", 0, group->size() - 1));
  in.flat_input("x", n, type);
  const CollectiveBytes x{in.flat_output("x", n, type), bytes_of(type, n.value)};
  in.must_share("x", "x");
  in.finish();
  return bind_call(in, kernels, group, x, x, [root, bytes = x.bytes](Collectives& ranks, void*, void* data) { ranks.broadcast(data, bytes, root); });
}

Bound bind_send(Binder& in, const Kernels& kernels) {
  Dim n("n");
  Transfer transfer;
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  transfer.to = peer_of(in, *group, "to");
  void* x = const_cast<void*>(in.flat_input("x", n, type));
  in.finish();
  transfer.send_bytes = bytes_of(type, n.value);
  return bind_call(in, kernels, group, {x, transfer.send_bytes}, {}, [transfer](Collectives& ranks, void* from, void*) mutable {
    transfer.send = from;
    ranks.send_receive(transfer);
  });
}

Bound bind_recv(Binder& in, const Kernels& kernels) {
  Dim n("n");
  Transfer transfer;
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  transfer.from = peer_of(in, *group, "from");
  in.flat_input("y", n, type);
  void* y = in.flat_output("y", n, type);
  in.must_share("y", "y");
  in.finish();
  transfer.receive_bytes = bytes_of(type, n.value);
  return bind_call(in, kernels, group, {}, {y, transfer.receive_bytes}, [transfer](Collectives& ranks, void*, void* to) mutable {
    transfer.receive = to;
    ranks.send_receive(transfer);
  });
}

Bound bind_send_recv(Binder& in, const Kernels& kernels) {
  Dim n("n"), m("m");
  Transfer transfer;
  const DType type = in.input_dtype(0);
  const auto group = in.group("group");
  transfer.to = peer_of(in, *group, "to");
  transfer.from = peer_of(in, *group, "from");
  void* x = const_cast<void*>(in.flat_input("x", n, type));
  in.flat_input("y", m, type);
  void* y = in.flat_output("y", m, type);
  in.must_share("y", "y");
  in.finish();
  transfer.send_bytes = bytes_of(type, n.value);
  transfer.receive_bytes = bytes_of(type, m.value);
  return bind_call(in, kernels, group, {x, transfer.send_bytes}, {y, transfer.receive_bytes}, [transfer](Collectives& ranks, void* from, void* to) mutable {
    transfer.send = from;
    transfer.receive = to;
    ranks.send_receive(transfer);
  });
}

Bound bind_barrier(Binder& in, const Kernels& kernels) {
  const auto group = in.group("group");
  in.finish();
  return bind_call(in, kernels, group, {}, {}, [](Collectives& ranks, void*, void*) { ranks.barrier(); });
}

}  // namespace raylite

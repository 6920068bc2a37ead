// The contracts of the collectives, and their calls: the communicator does the work, whatever the instruction set.
#include "core/ops/collectives.h"

#include "core/bind.h"

namespace raylite {

namespace {

enum class Kind { kAllReduceSum, kAllReduceMax, kReduceScatter, kAllGather, kBarrier };

struct CollectiveArguments {
  Kind kind;
  float* data;
  std::int64_t count;  // of the whole (all_reduce) or of a slice
  std::shared_ptr<Communicator> group;
};

void call(const CollectiveArguments& a) {
  const auto count = static_cast<std::size_t>(a.count);
  switch (a.kind) {
    case Kind::kAllReduceSum:
      return a.group->all_reduce(a.data, count, ReduceOp::kSum);
    case Kind::kAllReduceMax:
      return a.group->all_reduce(a.data, count, ReduceOp::kMax);
    case Kind::kReduceScatter:
      return a.group->reduce_scatter(a.data, count);
    case Kind::kAllGather:
      return a.group->all_gather(a.data, count);
    case Kind::kBarrier:
      return a.group->barrier();
  }
}

void run(const CollectiveArguments& a, const Team& team) {
  if (team.index != 0) return;
  try {
    call(a);
  } catch (const CommError& error) {
    throw GroupError(error, a.group.get());
  }
}

constexpr Kernel<CollectiveArguments> kKernel{run, nullptr};

/// `slice` must be slice `rank` of `whole`.
template <class T>
void check_slice(const Binder& in, const CollectiveArguments& a, const T* whole, std::int64_t whole_count, const T* slice,
                 std::int64_t slice_count) {
  const std::int64_t size = a.group->size();
  if (whole_count != size * slice_count) {
    in.fail_shape("the whole has " + std::to_string(whole_count) + " elements, expected " + std::to_string(size) +
                  " slices of " + std::to_string(slice_count));
  }
  if (slice != whole + a.group->rank() * slice_count) {
    in.fail_shape("the slice does not lie inside the whole at rank " + std::to_string(a.group->rank()));
  }
}

}  // namespace

Bound bind_all_reduce(Binder& in, const Kernels&) {
  CollectiveArguments a{};
  Dim n("n");
  a.group = in.group("group");
  a.kind = in.integer("op", 0, 1) == 0 ? Kind::kAllReduceSum : Kind::kAllReduceMax;
  in.flat_input("x", n);
  a.data = in.flat_output("x", n);
  in.must_share("x", "x");
  in.finish();
  a.count = n.value;
  return bound(in, std::move(a), kKernel);
}

Bound bind_reduce_scatter(Binder& in, const Kernels&) {
  CollectiveArguments a{};
  Dim whole("size*n"), n("n");
  a.kind = Kind::kReduceScatter;
  a.group = in.group("group");
  const float* x = in.flat_input("x", whole);
  const float* slice = in.flat_output("slice", n);
  in.may_overlap("x", "slice");
  in.finish();
  check_slice(in, a, x, whole.value, slice, n.value);
  a.data = const_cast<float*>(x);  // the contract: the other slices of x are scratch afterwards
  a.count = n.value;
  return bound(in, std::move(a), kKernel);
}

template <class T>
static Bound bind_all_gather(Binder& in, const KernelsOf<T>&) {
  CollectiveArguments a{};
  Dim whole("size*n"), n("n");
  a.kind = Kind::kAllGather;
  a.group = in.group("group");
  const T* slice = in.flat_input<T>("slice", n);
  T* y = in.flat_output<T>("y", whole);
  in.may_overlap("y", "slice");
  in.finish();
  check_slice(in, a, y, whole.value, slice, n.value);
  // The communicator only moves these bytes, in words of a float.
  const auto bytes = static_cast<std::size_t>(n.value) * sizeof(T);
  if (bytes % sizeof(float) != 0) in.fail_shape("a slice of " + std::to_string(n.value) + " 16-bit numbers is no whole number of words");
  a.data = reinterpret_cast<float*>(y);
  a.count = static_cast<std::int64_t>(bytes / sizeof(float));
  return bound(in, std::move(a), kKernel);
}

RAYLITE_BIND_STORED(all_gather)

Bound bind_barrier(Binder& in, const Kernels&) {
  CollectiveArguments a{};
  a.kind = Kind::kBarrier;
  a.group = in.group("group");
  in.finish();
  return bound(in, std::move(a), kKernel);
}

}  // namespace raylite

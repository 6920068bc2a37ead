// The contract of dropout.
#include "core/ops/dropout.h"

#include "core/bind.h"

namespace raylite {

template <class T>
static Bound bind_dropout(Binder& in, const KernelsOf<T>& kernels) {
  DropoutArguments<T> a{};
  Dim n("N"), d("D"), four("4", 4);
  a.probability = in.number("p");
  a.stream = static_cast<std::uint32_t>(in.integer("stream", 0, UINT16_MAX)) << 16;
  if (in.attributes_left() > 0) {
    a.first_column = in.integer("firstColumn", 0, INT32_MAX);
    a.first_row = in.integer("firstRow", 0, INT32_MAX);
  }
  a.x = in.input<T>("x", {&n, &d});
  a.random = in.ints("random", {&four});
  a.y = in.output<T>("y", {&n, &d});
  in.may_share("y", "x");
  in.finish();
  if (!(a.probability >= 0 && a.probability < 1)) in.fail_shape("attribute \"p\" must be from 0 to less than 1");
  a.n = n.value, a.d = d.value;
  return bound(in, a, kernels.dropout);
}

RAYLITE_BIND_STORED(dropout)

}  // namespace raylite

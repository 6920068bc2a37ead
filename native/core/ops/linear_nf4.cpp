// The contracts of dense layers over weights in 4 bits.
#include "core/ops/linear_nf4.h"

#include "core/bind.h"

namespace raylite {

namespace {

std::int64_t aligned(std::int64_t bytes) { return (bytes + 15) / 16 * 16; }
std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

Nf4Matrix take_weight(Binder& in, std::int64_t rows, std::int64_t columns, bool double_quant) {
  Dim bytes("bytes of w", nf4_bytes(rows, columns, double_quant));
  const std::uint8_t* at = in.bytes("w", {&bytes});
  const std::int64_t count = rows * columns;
  const std::int64_t blocks = parts(count, kNf4Block);
  Nf4Matrix w{};
  w.rows = rows, w.columns = columns;
  w.nibbles = at;
  at += aligned(parts(count, 2));
  w.floats = reinterpret_cast<const float*>(at);
  if (double_quant) w.bytes = at + aligned(4 * (257 + parts(blocks, kNf4Superblock)));
  return w;
}

}  // namespace

std::int64_t nf4_bytes(std::int64_t rows, std::int64_t columns, bool double_quant) {
  const std::int64_t count = rows * columns;
  const std::int64_t blocks = parts(count, kNf4Block);
  const std::int64_t nibbles = aligned(parts(count, 2));
  if (!double_quant) return nibbles + aligned(4 * blocks);
  return nibbles + aligned(4 * (257 + parts(blocks, kNf4Superblock))) + aligned(blocks);
}

template <class T>
static Bound bind_linear_nf4(Binder& in, const KernelsOf<T>& kernels) {
  LinearNf4Arguments<T> a{};
  Dim n("N"), i("I");
  a.transposed = in.flag("transposed");
  const std::int64_t outputs = in.integer("outputs", 1, std::int64_t{1} << 40);
  const bool double_quant = in.flag("doubleQuant");
  a.x = in.input<T>("x", {&n, &i});
  Dim o("O", outputs);
  a.n = n.value, a.i = i.value, a.o = outputs;
  a.w = take_weight(in, a.transposed ? a.i : a.o, a.transposed ? a.o : a.i, double_quant);
  if (in.inputs_left() > 0) a.bias = in.input<T>("bias", {&o});
  a.y = in.output<T>("y", {&n, &o});
  in.finish();
  return bound(in, a, kernels.linear_nf4);
}

template <class T>
static Bound bind_linear_nf4_backward_input(Binder& in, const KernelsOf<T>& kernels) {
  LinearNf4BackwardInputArguments<T> a{};
  Dim n("N"), o("O");
  a.transposed = in.flag("transposed");
  const std::int64_t inputs = in.integer("inputs", 1, std::int64_t{1} << 40);
  const bool double_quant = in.flag("doubleQuant");
  a.dy = in.input<T>("dy", {&n, &o});
  Dim i("I", inputs);
  a.n = n.value, a.i = inputs, a.o = o.value;
  a.w = take_weight(in, a.transposed ? a.i : a.o, a.transposed ? a.o : a.i, double_quant);
  a.dx = in.output<T>("dx", {&n, &i});
  in.finish();
  return bound(in, a, kernels.linear_nf4_backward_input);
}

RAYLITE_BIND_STORED(linear_nf4)
RAYLITE_BIND_STORED(linear_nf4_backward_input)

}  // namespace raylite

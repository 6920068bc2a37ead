// The contracts of block_quantise and block_dequantise.
#include "core/ops/block_quantise.h"

#include "core/bind.h"

namespace raylite {

namespace {

/// Takes the attributes that both have, and `fold`: what must divide the number of parts.
template <class Arguments>
std::int64_t take_form(Binder& in, Arguments& a, const char* fold) {
  a.bits = static_cast<int>(in.integer("bits", 4, 8));
  a.block = in.integer("block", 32, std::int64_t{1} << 30);
  a.parts = in.integer("parts", 1, std::int64_t{1} << 20);
  const std::int64_t folds = in.integer(fold, 1, a.parts);
  if (a.bits != 4 && a.bits != 8) in.fail_shape("\"bits\" is " + std::to_string(a.bits) + ", expected 4 or 8");
  if (a.block % 32 != 0) in.fail_shape("\"block\" is " + std::to_string(a.block) + ", expected a multiple of 32");
  if (a.parts % folds != 0) in.fail_shape(std::to_string(a.parts) + " parts are no multiple of \"" + fold + "\" = " + std::to_string(folds));
  return folds;
}

template <class Arguments>
void check_sizes(const Binder& in, Arguments& a, std::int64_t numbers, std::int64_t parts, std::int64_t bytes) {
  if (numbers % parts != 0 || numbers / parts % 32 != 0) {
    in.fail_shape(std::to_string(numbers) + " numbers are not " + std::to_string(parts) + " equal parts of a multiple of 32");
  }
  a.n = numbers / parts;
  const std::int64_t expected = a.parts * payload_bytes(a.n, a.bits, a.block);
  if (bytes != expected) in.fail_shape("the payloads have " + std::to_string(bytes) + " bytes, expected " + std::to_string(expected));
}

}  // namespace

template <class T>
static Bound bind_block_quantise(Binder& in, const KernelsOf<T>& kernels) {
  BlockQuantiseArguments<T> a{};
  Dim numbers("parts*n"), bytes("bytes");
  a.columns = take_form(in, a, "columns");
  a.x = in.flat_input<T>("x", numbers);
  a.y = static_cast<std::uint8_t*>(in.flat_output("y", bytes, DType::kU8));
  in.finish();
  check_sizes(in, a, numbers.value, a.parts, bytes.value);
  return bound(in, a, kernels.block_quantise);
}

template <class T>
static Bound bind_block_dequantise(Binder& in, const KernelsOf<T>& kernels) {
  BlockDequantiseArguments<T> a{};
  Dim numbers("parts/terms*n"), bytes("bytes");
  a.terms = take_form(in, a, "terms");
  a.x = static_cast<const std::uint8_t*>(in.flat_input("x", bytes, DType::kU8));
  a.y = in.flat_output<T>("y", numbers);
  in.finish();
  check_sizes(in, a, numbers.value, a.parts / a.terms, bytes.value);
  return bound(in, a, kernels.block_dequantise);
}

RAYLITE_BIND_STORED(block_quantise)
RAYLITE_BIND_STORED(block_dequantise)

}  // namespace raylite

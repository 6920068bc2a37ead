// The types in which tensors hold real numbers: float, and two of 16 bits. Arithmetic is in float; a 16-bit type only
// stores. Included by sources compiled for several instruction sets: nothing here may be an inline function.
#pragma once
#include <cstdint>

namespace raylite {

/// The numbers of the plan format.
enum class DType : std::uint32_t { kF32 = 0, kI32 = 1, kU8 = 2, kBF16 = 3, kF16 = 4 };

/// The upper half of a float: 8 bits of exponent, 7 of fraction.
struct BFloat16 {
  std::uint16_t bits;
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
struct Float16 {
  std::uint16_t bits;
};

template <class T>
constexpr DType kDTypeOf = DType::kF32;
template <>
constexpr DType kDTypeOf<BFloat16> = DType::kBF16;
template <>
constexpr DType kDTypeOf<Float16> = DType::kF16;

}  // namespace raylite

#include "comm/reduce.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

// One clone per instruction set, chosen when the addon is loaded. Additions alone: every clone gives the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define RL_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define RL_CLONES
#endif

namespace raylite {

namespace {

constexpr std::size_t kBlock = 1024;  // floats summed in the first-level cache before they are stored

RL_CLONES void add_pair(float* out, const float* a, const float* b, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

RL_CLONES void max_pair(float* out, const float* a, const float* b, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) out[i] = (a[i] > b[i] || a[i] != a[i]) ? a[i] : b[i];
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

RL_CLONES void widen_bf16(float* out, const std::uint16_t* in, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) out[i] = float_of(static_cast<std::uint32_t>(in[i]) << 16);
}

/// To nearest, ties to even.
RL_CLONES void narrow_bf16(std::uint16_t* out, const float* in, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t wide = bits_of(in[i]);
    const std::uint32_t rounded = wide + 0x7fff + ((wide >> 16) & 1);
    const bool is_nan = (wide & 0x7fffffff) > 0x7f800000;
    out[i] = static_cast<std::uint16_t>((is_nan ? wide | 0x400000 : rounded) >> 16);
  }
}

RL_CLONES void widen_f16(float* out, const std::uint16_t* in, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t sign = static_cast<std::uint32_t>(in[i] & 0x8000) << 16;
    // The exponent counts from 15 in place of 127; the product takes subnormals along.
    const std::uint32_t rest = bits_of(float_of(static_cast<std::uint32_t>(in[i] & 0x7fff) << 13) * 0x1p112f);
    const bool is_finite = (in[i] & 0x7c00) != 0x7c00;
    out[i] = float_of(sign | (is_finite ? rest : rest | 0x7f800000));
  }
}

/// To nearest, ties to even; 65520 and more become infinite.
RL_CLONES void narrow_f16(std::uint16_t* out, const float* in, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t sign = (bits_of(in[i]) >> 16) & 0x8000;
    const std::uint32_t wide = bits_of(in[i]) & 0x7fffffff;
    // Below 2^-14: beside 0.5 a float has steps of 2^-24, those of a subnormal.
    const std::uint32_t small = bits_of(float_of(wide) + 0.5f) - 0x3f000000;
    const std::uint32_t normal = (wide + 0xfff + ((wide >> 13) & 1) - (112u << 23)) >> 13;
    const std::uint32_t nan = 0x7e00 | ((wide >> 13) & 0x3ff);
    const std::uint32_t finite = wide < 0x38800000 ? small : normal;
    out[i] = static_cast<std::uint16_t>(sign | (wide > 0x7f800000 ? nan : wide >= 0x477ff000 ? 0x7c00 : finite));
  }
}

void reduce_f32(float* out, const void* const* in, int inputs, std::size_t count, ReduceOp op) {
  const auto at = [in](int input) { return static_cast<const float*>(in[input]); };
  const auto pair = op == ReduceOp::kSum ? add_pair : max_pair;
  if (inputs == 1) {
    if (out != at(0)) std::memcpy(out, at(0), count * sizeof(float));
    return;
  }
  if (inputs == 2) return pair(out, at(0), at(1), count);
  float block[kBlock];
  for (std::size_t start = 0; start < count; start += kBlock) {
    const std::size_t length = std::min(kBlock, count - start);
    pair(block, at(0) + start, at(1) + start, length);
    for (int input = 2; input < inputs - 1; ++input) pair(block, block, at(input) + start, length);
    pair(out + start, block, at(inputs - 1) + start, length);
  }
}

void widen(float* out, const void* in, std::size_t count, Number number) {
  if (number == Number::kF32) std::memcpy(out, in, count * sizeof(float));
  else (number == Number::kBF16 ? widen_bf16 : widen_f16)(out, static_cast<const std::uint16_t*>(in), count);
}

/// `length` numbers, at most a block, from `start` on of every input, behind the head if there is one.
void add_block(float* total, const float* head, const void* const* in, int inputs, std::size_t start, std::size_t length,
               Number number, ReduceOp op) {
  const auto pair = op == ReduceOp::kSum ? add_pair : max_pair;
  const auto at = [&](int input) { return static_cast<const std::uint8_t*>(in[input]) + start * width_of(number); };
  if (head) std::memcpy(total, head, length * sizeof(float));
  else widen(total, at(0), length, number);
  float next[kBlock];
  for (int input = head ? 0 : 1; input < inputs; ++input) {
    widen(next, at(input), length, number);
    pair(total, total, next, length);
  }
}

}  // namespace

void reduce_in_order(void* out, const void* const* in, int inputs, std::size_t count, Number number, ReduceOp op) {
  if (number == Number::kF32) return reduce_f32(static_cast<float*>(out), in, inputs, count, op);
  float total[kBlock];
  for (std::size_t start = 0; start < count; start += kBlock) {
    const std::size_t length = std::min(kBlock, count - start);
    add_block(total, nullptr, in, inputs, start, length, number, op);
    round_to(static_cast<std::uint8_t*>(out) + start * width_of(number), total, length, number);
  }
}

void reduce_onward(float* total, const float* head, const void* const* in, int inputs, std::size_t count, Number number,
                   ReduceOp op) {
  for (std::size_t start = 0; start < count; start += kBlock) {
    const std::size_t length = std::min(kBlock, count - start);
    add_block(total + start, head ? head + start : nullptr, in, inputs, start, length, number, op);
  }
}

void round_to(void* out, const float* in, std::size_t count, Number number) {
  if (number == Number::kF32) std::memcpy(out, in, count * sizeof(float));
  else (number == Number::kBF16 ? narrow_bf16 : narrow_f16)(static_cast<std::uint16_t*>(out), in, count);
}

}  // namespace raylite

#include "comm/reduce.h"

#include <algorithm>
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

}  // namespace

void reduce_in_order(float* out, const float* const* in, int inputs, std::size_t count, ReduceOp op) {
  const auto pair = op == ReduceOp::kSum ? add_pair : max_pair;
  if (inputs == 1) {
    if (out != in[0]) std::memcpy(out, in[0], count * sizeof(float));
    return;
  }
  if (inputs == 2) return pair(out, in[0], in[1], count);
  float block[kBlock];
  for (std::size_t start = 0; start < count; start += kBlock) {
    const std::size_t length = std::min(kBlock, count - start);
    pair(block, in[0] + start, in[1] + start, length);
    for (int input = 2; input < inputs - 1; ++input) pair(block, block, in[input] + start, length);
    pair(out + start, block, in[inputs - 1] + start, length);
  }
}

}  // namespace raylite

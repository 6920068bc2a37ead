// Matrix products of a team: C (+)= A B with strided operands, packed panels and register-blocked tiles.
#pragma once
#include "core/ops/activation.h"
#include "core/team.h"
#include "cpu/simd.h"

namespace raylite::RL_ISA {

/// Element (i, p) of A is a[i * a_row + p * a_col], element (p, j) of B is b[p * b_row + j * b_col]; in both one of the
/// strides is 1. C is [m, n] with rows `ldc` apart. Per element: c = act(sum (+ c if accumulate) + bias[j]) + addend;
/// `pre` receives the value before the activation. bias, pre and addend (laid out as c) may be null.
struct Gemm {
  std::int64_t m, n, k;
  const float* a;
  std::int64_t a_row, a_col;
  const float* b;
  std::int64_t b_row, b_col;
  float* c;
  std::int64_t ldc;
  bool accumulate;
  const float* bias;
  float* pre;
  const float* addend;
  Activation activation;
};

/// Every element of C is a sum over slices of `slice` elements of depth, each summed in order from 0 and added to the last;
/// slices end at multiples of `block` too.
struct Depths {
  std::int64_t block, slice;
};
Depths cut_depth(std::int64_t k);

/// Called by every thread of the team with the same arguments; returns after a barrier.
/// A row of C depends on its row of A and on B alone: not on the other rows, their number or the team's size.
void gemm(const Gemm& gemm, const Team& team, std::uint8_t* workspace);
/// Bytes that gemm() needs at most for any product of at most this size.
std::size_t gemm_workspace(std::int64_t m, std::int64_t n, std::int64_t k, int threads);

}  // namespace raylite::RL_ISA

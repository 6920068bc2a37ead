// Matrix products of a team: C (+)= A B with strided operands, packed panels and register-blocked tiles.
#pragma once
#include "core/ops/activation.h"
#include "core/team.h"
#include "cpu/storage.h"

namespace raylite::RL_ISA {

/// Operands hold T, C holds T or float. Element (i, p) of A is a[i * a_row + p * a_col], element (p, j) of B is
/// b[p * b_row + j * b_col]; in both one of the strides is 1. C is [m, n] with rows `ldc` apart. Per element:
/// c = act(sum (+ c if accumulate) + bias[j]) + addend; `pre` receives the value before the activation. bias, pre and
/// addend (laid out as c; it may be c) may be null. Only a C of float can accumulate.
template <class T, class C>
struct Gemm {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t a_row, a_col;
  const T* b;
  std::int64_t b_row, b_col;
  C* c;
  std::int64_t ldc;
  bool accumulate;
  const T* bias;
  T* pre;
  const T* addend;
  Activation activation;
};

/// Called by every thread of the team with the same arguments; returns after a barrier.
/// A row of C depends on its row of A and on B alone: not on the other rows, their number or the team's size.
void gemm(const Gemm<float, float>& gemm, const Team& team, std::uint8_t* workspace);
void gemm(const Gemm<BFloat16, BFloat16>& gemm, const Team& team, std::uint8_t* workspace);
void gemm(const Gemm<BFloat16, float>& gemm, const Team& team, std::uint8_t* workspace);
void gemm(const Gemm<Float16, Float16>& gemm, const Team& team, std::uint8_t* workspace);
void gemm(const Gemm<Float16, float>& gemm, const Team& team, std::uint8_t* workspace);

/// Bytes that gemm() needs at most for any product of at most this size. `is_narrow`: C holds 16-bit numbers.
std::size_t gemm_workspace(std::int64_t m, std::int64_t n, std::int64_t k, int threads, bool is_narrow);
template <class C>
RL_INLINE std::size_t gemm_workspace_of(std::int64_t m, std::int64_t n, std::int64_t k, int threads) {
  return gemm_workspace(m, n, k, threads, !std::is_same_v<C, float>);
}

}  // namespace raylite::RL_ISA

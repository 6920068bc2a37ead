// rms_norm (with and without a residual), rms_norm_backward.
#include "cpu/kernels.h"
#include "cpu/norm_rows.h"
#include "cpu/reduce_rows.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
struct RmsNorm {
  const RmsNormArguments<T>& a;
  const bool sum_around = sum_goes_around(a);
  const bool y_around = goes_around(a.y, a.n, a.d, false);

  /// Rows i..i+kRows-1.
  template <int kRows>
  RL_MEMBER void operator()(std::int64_t i) const {
    const std::int64_t d = a.d;
    Floats squares[kRows] = {};
    alignas(64) T kept[kRows * kKeptWidth];
    const T* x = see_rows<kRows>(a, i, sum_around, kept, [&](int row, Floats value) { squares[row] += value * value; });
    float rstd[kRows];
    for (int row = 0; row < kRows; row++) {
      rstd[row] = 1.0f / __builtin_sqrtf(sum_lanes(squares[row]) / static_cast<float>(d) + a.eps);
      a.rstd[i + row] = rstd[row];
    }
    T* y = a.y + i * d;
    each_vector(d, [&](std::int64_t j, int n) {
      const Floats gain = load_n(a.gain + j, n);
      for (int row = 0; row < kRows; row++) {
        if (a.r != nullptr) fetch_row(a.r + (i + kRows + row) * d + j);
        store_around(y + row * d + j, load_n(x + row * d + j, n) * rstd[row] * gain, n, y_around);
      }
    });
  }
};

template <class T>
struct RmsNormBackward {
  const RmsNormBackwardArguments<T>& a;
  float* dgain;  // this thread's sum
  const bool around = goes_around(a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.addend);

  /// Rows i..i+kRows-1.
  template <int kRows>
  RL_MEMBER void operator()(std::int64_t i) const {
    const std::int64_t d = a.d;
    const T* dy = a.dy + i * d;
    const T* x = a.x + i * d;
    const float* rstd = a.rstd + i;
    Floats projected[kRows] = {};
    each_vector(d, [&](std::int64_t j, int n) {
      const Floats gain = load_n(a.gain + j, n);
      Floats gains = load_n(dgain + j, n);
      for (int row = 0; row < kRows; row++) {
        fetch_row(dy + (kRows + row) * d + j);
        const Floats g = load_n(dy + row * d + j, n);
        const Floats normal = load_n(x + row * d + j, n) * rstd[row];
        projected[row] += g * gain * normal;
        gains += g * normal;
      }
      store_n(dgain + j, gains, n);
    });
    float slope[kRows];
    for (int row = 0; row < kRows; row++) slope[row] = sum_lanes(projected[row]) / static_cast<float>(d);
    const T* addend = a.addend == nullptr ? nullptr : a.addend + i * d;
    T* dx = a.dx + i * d;
    each_vector(d, [&](std::int64_t j, int n) {
      const Floats gain = load_n(a.gain + j, n);
      for (int row = 0; row < kRows; row++) {
        const std::int64_t at = row * d + j;
        fetch_row(x + kRows * d + at);
        if (addend != nullptr) fetch_row(addend + kRows * d + at);
        const Floats normal = load_n(x + at, n) * rstd[row];
        Floats value = (load_n(dy + at, n) * gain - normal * slope[row]) * rstd[row];
        if (addend != nullptr) value += load_n(addend + at, n);
        store_around(dx + at, value, n, around);
      }
    });
  }
};

}  // namespace

template <class T>
static void rms_norm_of(const RmsNormArguments<T>& a, const Team& team) {
  const RmsNorm<T> rows{a};
  each_pair(share_rows(team, a.n, a.d), rows);
  end_around(rows.sum_around || rows.y_around);
}

template <class T>
static void rms_norm_backward_of(const RmsNormBackwardArguments<T>& a, const Team& team) {
  const RmsNormBackward<T> rows{a, partial_row(team, a.d)};
  each_pair(share_rows(team, a.n, a.d), rows);
  end_around(rows.around);
  team.barrier();
  reduce_partials(team, a.d, 0, a.d, a.dgain, a.accumulate || a.beta[0] != 0.0f);
}

template <class T>
static std::size_t rms_norm_backward_workspace_of(const RmsNormBackwardArguments<T>& a, int threads) {
  return partials_bytes(a.d, threads);
}

RL_DEFINE(rms_norm, RmsNormArguments)
RL_DEFINE(rms_norm_backward, RmsNormBackwardArguments)
RL_DEFINE_WORKSPACE(rms_norm_backward, RmsNormBackwardArguments)

}  // namespace raylite::RL_ISA

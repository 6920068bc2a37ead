// layer_norm (with and without a residual), layer_norm_backward. Rows fit the first cache, so they are read again freely, while
// the rows behind them are asked for.
#include "cpu/kernels.h"
#include "cpu/norm_rows.h"
#include "cpu/reduce_rows.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
struct LayerNorm {
  const LayerNormArguments<T>& a;
  const bool sum_around = sum_goes_around(a);
  const bool y_around = goes_around(a.y, a.n, a.d, false);

  /// Rows i..i+kRows-1.
  template <int kRows>
  RL_MEMBER void operator()(std::int64_t i) const {
    const std::int64_t d = a.d;
    const float per_d = 1.0f / static_cast<float>(d);
    Floats total[kRows] = {};
    alignas(64) T kept[kRows * kKeptWidth];
    const T* x = see_rows<kRows>(a, i, sum_around, kept, [&](int row, Floats value) { total[row] += value; });
    float mean[kRows], rstd[kRows];
    for (int row = 0; row < kRows; row++) mean[row] = sum_lanes(total[row]) * per_d;
    Floats squares[kRows] = {};
    each_vector(d, [&](std::int64_t j, int n) {
      for (int row = 0; row < kRows; row++) {
        if (a.r != nullptr) fetch_row(a.r + (i + kRows + row) * d + j);
        // Lanes beyond the row must not count: they hold 0, not the mean.
        const Floats centred = with_rest(load_n(x + row * d + j, n) - mean[row], n, 0);
        squares[row] += centred * centred;
      }
    });
    for (int row = 0; row < kRows; row++) rstd[row] = 1.0f / __builtin_sqrtf(sum_lanes(squares[row]) * per_d + a.eps);
    T* y = a.y + i * d;
    each_vector(d, [&](std::int64_t j, int n) {
      const Floats gain = load_n(a.gain + j, n);
      const Floats bias = load_n(a.bias + j, n);
      for (int row = 0; row < kRows; row++) {
        const Floats normal = (load_n(x + row * d + j, n) - mean[row]) * rstd[row];
        store_around(y + row * d + j, normal * gain + bias, n, y_around);
      }
    });
    for (int row = 0; row < kRows; row++) {
      a.mean[i + row] = mean[row];
      a.rstd[i + row] = rstd[row];
    }
  }
};

template <class T>
struct LayerNormBackward {
  const LayerNormBackwardArguments<T>& a;
  float* dgain;  // this thread's sums
  float* dbias;
  const bool around = goes_around(a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.addend);

  /// Rows i..i+kRows-1.
  template <int kRows>
  RL_MEMBER void operator()(std::int64_t i) const {
    const std::int64_t d = a.d;
    const float per_d = 1.0f / static_cast<float>(d);
    const T* dy = a.dy + i * d;
    const T* x = a.x + i * d;
    const float* mean = a.mean + i;
    const float* rstd = a.rstd + i;
    Floats total[kRows] = {};
    Floats projected[kRows] = {};
    each_vector(d, [&](std::int64_t j, int n) {
      const Floats gain = load_n(a.gain + j, n);
      Floats gains = load_n(dgain + j, n);
      Floats biases = load_n(dbias + j, n);
      for (int row = 0; row < kRows; row++) {
        fetch_row(dy + (kRows + row) * d + j);
        const Floats g = load_n(dy + row * d + j, n);
        const Floats normal = (load_n(x + row * d + j, n) - mean[row]) * rstd[row];
        const Floats scaled = g * gain;
        total[row] += scaled;
        projected[row] += scaled * normal;
        gains += g * normal;
        biases += g;
      }
      store_n(dgain + j, gains, n);
      store_n(dbias + j, biases, n);
    });
    float shift[kRows], slope[kRows];
    for (int row = 0; row < kRows; row++) shift[row] = sum_lanes(total[row]) * per_d;
    for (int row = 0; row < kRows; row++) slope[row] = sum_lanes(projected[row]) * per_d;
    const T* addend = a.addend == nullptr ? nullptr : a.addend + i * d;
    T* dx = a.dx + i * d;
    each_vector(d, [&](std::int64_t j, int n) {
      const Floats gain = load_n(a.gain + j, n);
      for (int row = 0; row < kRows; row++) {
        const std::int64_t at = row * d + j;
        fetch_row(x + kRows * d + at);
        if (addend != nullptr) fetch_row(addend + kRows * d + at);
        const Floats normal = (load_n(x + at, n) - mean[row]) * rstd[row];
        Floats value = (load_n(dy + at, n) * gain - shift[row] - normal * slope[row]) * rstd[row];
        if (addend != nullptr) value += load_n(addend + at, n);
        store_around(dx + at, value, n, around);
      }
    });
  }
};

}  // namespace

template <class T>
static void layer_norm_of(const LayerNormArguments<T>& a, const Team& team) {
  const LayerNorm<T> rows{a};
  each_pair(share_rows(team, a.n, a.d), rows);
  end_around(rows.sum_around || rows.y_around);
}

template <class T>
static void layer_norm_backward_of(const LayerNormBackwardArguments<T>& a, const Team& team) {
  float* dgain = partial_row(team, 2 * a.d);
  const LayerNormBackward<T> rows{a, dgain, dgain + a.d};
  each_pair(share_rows(team, a.n, a.d), rows);
  end_around(rows.around);
  team.barrier();
  const bool adds = a.accumulate || a.beta[0] != 0.0f;
  reduce_partials(team, 2 * a.d, 0, a.d, a.dgain, adds);
  reduce_partials(team, 2 * a.d, a.d, a.d, a.dbias, adds);
}

template <class T>
static std::size_t layer_norm_backward_workspace_of(const LayerNormBackwardArguments<T>& a, int threads) {
  return partials_bytes(2 * a.d, threads);
}

RL_DEFINE(layer_norm, LayerNormArguments)
RL_DEFINE(layer_norm_backward, LayerNormBackwardArguments)
RL_DEFINE_WORKSPACE(layer_norm_backward, LayerNormBackwardArguments)

}  // namespace raylite::RL_ISA

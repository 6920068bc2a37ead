// layer_norm (with and without a residual), layer_norm_backward. A row fits the first cache, so it is read again freely.
#include "cpu/kernels.h"
#include "cpu/reduce_rows.h"
#include "cpu/split.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void layer_norm_of(const LayerNormArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const float per_d = 1.0f / static_cast<float>(a.d);
  RowsAround<T> sums, ys;
  decide(sums, a.sum, a.n, a.d, a.sum == nullptr || a.sum == a.x);
  decide(ys, a.y, a.n, a.d, false);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* x = a.x + i * a.d;
    Floats total{};
    if (a.r != nullptr) {
      const T* r = a.r + i * a.d;
      T* sum = begin_row(sums, a.sum + i * a.d);
      each_vector(a.d, [&](std::int64_t j, int n) {
        // What the norm sees is what the tensor holds.
        const Floats value = rounded_to<T>(load_n(x + j, n) + load_n(r + j, n));
        store_n(sum + j, value, n);
        total += value;
      });
      x = sum;
    } else {
      each_vector(a.d, [&](std::int64_t j, int n) { total += load_n(x + j, n); });
    }
    const float mean = sum_lanes(total) * per_d;
    Floats squares{};
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_next(a.x, i, a.d, j);
      if (a.r != nullptr) fetch_next(a.r, i, a.d, j);
      // Lanes beyond the row must not count: they hold 0, not the mean.
      const Floats centred = with_rest(load_n(x + j, n) - mean, n, 0);
      squares += centred * centred;
    });
    const float rstd = 1.0f / __builtin_sqrtf(sum_lanes(squares) * per_d + a.eps);
    T* y = begin_row(ys, a.y + i * a.d);
    each_vector(a.d, [&](std::int64_t j, int n) {
      store_n(y + j, (load_n(x + j, n) - mean) * rstd * load_n(a.gain + j, n) + load_n(a.bias + j, n), n);
    });
    end_row(sums, a.sum + i * a.d, a.d);
    end_row(ys, a.y + i * a.d, a.d);
    a.mean[i] = mean;
    a.rstd[i] = rstd;
  }
  end_rows(ys);
}

template <class T>
static void layer_norm_backward_of(const LayerNormBackwardArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const float per_d = 1.0f / static_cast<float>(a.d);
  float* dgain = partial_row(team, 2 * a.d);
  float* dbias = dgain + a.d;
  RowsAround<T> dxs;
  decide(dxs, a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.addend);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* dy = a.dy + i * a.d;
    const T* x = a.x + i * a.d;
    const float mean = a.mean[i];
    const float rstd = a.rstd[i];
    Floats total{};
    Floats projected{};
    each_vector(a.d, [&](std::int64_t j, int n) {
      const Floats g = load_n(dy + j, n);
      const Floats normal = (load_n(x + j, n) - mean) * rstd;
      const Floats scaled = g * load_n(a.gain + j, n);
      total += scaled;
      projected += scaled * normal;
      store_n(dgain + j, load_n(dgain + j, n) + g * normal, n);
      store_n(dbias + j, load_n(dbias + j, n) + g, n);
    });
    const float shift = sum_lanes(total) * per_d;
    const float slope = sum_lanes(projected) * per_d;
    const T* addend = a.addend == nullptr ? nullptr : a.addend + i * a.d;
    T* dx = begin_row(dxs, a.dx + i * a.d);
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_next(a.dy, i, a.d, j);
      fetch_next(a.x, i, a.d, j);
      const Floats normal = (load_n(x + j, n) - mean) * rstd;
      Floats value = (load_n(dy + j, n) * load_n(a.gain + j, n) - shift - normal * slope) * rstd;
      if (addend != nullptr) value += load_n(addend + j, n);
      store_n(dx + j, value, n);
    });
    end_row(dxs, a.dx + i * a.d, a.d);
  }
  end_rows(dxs);
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

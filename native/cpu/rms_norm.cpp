// rms_norm (with and without a residual), rms_norm_backward.
#include "cpu/kernels.h"
#include "cpu/reduce_rows.h"
#include "cpu/split.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void rms_norm_of(const RmsNormArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  RowsAround<T> sums, ys;
  decide(sums, a.sum, a.n, a.d, a.sum == nullptr || a.sum == a.x);
  decide(ys, a.y, a.n, a.d, false);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* x = a.x + i * a.d;
    Floats squares{};
    if (a.r != nullptr) {
      const T* r = a.r + i * a.d;
      T* sum = begin_row(sums, a.sum + i * a.d);
      each_vector(a.d, [&](std::int64_t j, int n) {
        // What the norm sees is what the tensor holds.
        const Floats value = rounded_to<T>(load_n(x + j, n) + load_n(r + j, n));
        store_n(sum + j, value, n);
        squares += value * value;
      });
      x = sum;
    } else {
      each_vector(a.d, [&](std::int64_t j, int n) {
        const Floats value = load_n(x + j, n);
        squares += value * value;
      });
    }
    const float rstd = 1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(a.d) + a.eps);
    T* y = begin_row(ys, a.y + i * a.d);
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_next(a.x, i, a.d, j);
      if (a.r != nullptr) fetch_next(a.r, i, a.d, j);
      store_n(y + j, load_n(x + j, n) * rstd * load_n(a.gain + j, n), n);
    });
    end_row(sums, a.sum + i * a.d, a.d);
    end_row(ys, a.y + i * a.d, a.d);
    a.rstd[i] = rstd;
  }
  end_rows(ys);
}

template <class T>
static void rms_norm_backward_of(const RmsNormBackwardArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  float* dgain = partial_row(team, a.d);
  RowsAround<T> dxs;
  decide(dxs, a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.addend);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* dy = a.dy + i * a.d;
    const T* x = a.x + i * a.d;
    const float rstd = a.rstd[i];
    Floats projected{};
    each_vector(a.d, [&](std::int64_t j, int n) {
      const Floats g = load_n(dy + j, n);
      const Floats normal = load_n(x + j, n) * rstd;
      projected += g * load_n(a.gain + j, n) * normal;
      store_n(dgain + j, load_n(dgain + j, n) + g * normal, n);
    });
    const float slope = sum_lanes(projected) / static_cast<float>(a.d);
    const T* addend = a.addend == nullptr ? nullptr : a.addend + i * a.d;
    T* dx = begin_row(dxs, a.dx + i * a.d);
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_next(a.dy, i, a.d, j);
      fetch_next(a.x, i, a.d, j);
      const Floats normal = load_n(x + j, n) * rstd;
      Floats value = (load_n(dy + j, n) * load_n(a.gain + j, n) - normal * slope) * rstd;
      if (addend != nullptr) value += load_n(addend + j, n);
      store_n(dx + j, value, n);
    });
    end_row(dxs, a.dx + i * a.d, a.d);
  }
  end_rows(dxs);
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

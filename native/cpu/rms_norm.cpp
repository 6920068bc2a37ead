// rms_norm (with and without a residual), rms_norm_backward.
#include "cpu/kernels.h"
#include "cpu/reduce_rows.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

template <class T>
static void rms_norm_of(const RmsNormArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* x = a.x + i * a.d;
    Floats squares{};
    if (a.r != nullptr) {
      const T* r = a.r + i * a.d;
      T* sum = a.sum + i * a.d;
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
    T* y = a.y + i * a.d;
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(y + j, load_n(x + j, n) * rstd * load_n(a.gain + j, n), n); });
    a.rstd[i] = rstd;
  }
}

template <class T>
static void rms_norm_backward_of(const RmsNormBackwardArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  float* dgain = partial_row(team, a.d);
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
    T* dx = a.dx + i * a.d;
    each_vector(a.d, [&](std::int64_t j, int n) {
      const Floats normal = load_n(x + j, n) * rstd;
      Floats value = (load_n(dy + j, n) * load_n(a.gain + j, n) - normal * slope) * rstd;
      if (addend != nullptr) value += load_n(addend + j, n);
      store_n(dx + j, value, n);
    });
  }
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

// softmax, softmax_backward: rows split among threads.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void softmax_of(const SoftmaxArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const bool is_kept = a.d <= kKeptWidth;
  alignas(64) float kept[kKeptWidth];
  const bool around = goes_around(a.y, a.n, a.d, a.y == a.x);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* x = a.x + i * a.d;
    T* y = a.y + i * a.d;
    Floats most = broadcast(-__builtin_inff());
    each_vector(a.d, [&](std::int64_t j, int n) { most = larger(with_rest(load_n(x + j, n), n, -__builtin_inff()), most); });
    const Floats top = broadcast(max_lanes(most));
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_row(x + a.d + j);
      const Floats power = exp_of(with_rest(load_n(x + j, n) - top, n, -__builtin_inff()));
      if (is_kept) store(kept + j, power);
      sums += power;
    });
    const Floats factor = broadcast(1.0f / sum_lanes(sums));
    // Exponentials of a wide row are taken twice rather than kept in y, which may hold 16 bits.
    each_vector(a.d, [&](std::int64_t j, int n) {
      const Floats power = is_kept ? load(kept + j) : exp_of(load_n(x + j, n) - top);
      store_around(y + j, power * factor, n, around);
    });
  }
  end_around(around);
}

template <class T>
static void softmax_backward_of(const SoftmaxBackwardArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const bool around = goes_around(a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.y);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* dy = a.dy + i * a.d;
    const T* y = a.y + i * a.d;
    T* dx = a.dx + i * a.d;
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_row(dy + a.d + j);
      sums += load_n(dy + j, n) * load_n(y + j, n);
    });
    const Floats shared = broadcast(sum_lanes(sums));
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_row(y + a.d + j);
      store_around(dx + j, load_n(y + j, n) * (load_n(dy + j, n) - shared), n, around);
    });
  }
  end_around(around);
}

RL_DEFINE(softmax, SoftmaxArguments)
RL_DEFINE(softmax_backward, SoftmaxBackwardArguments)

}  // namespace raylite::RL_ISA

// softmax, softmax_backward: rows split among threads.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void softmax_of(const SoftmaxArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  const bool is_kept = a.d <= kAroundWidth;
  alignas(64) float kept[kAroundWidth];
  RowsAround<T> ys;
  decide(ys, a.y, a.n, a.d, a.y == a.x);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* x = a.x + i * a.d;
    T* y = begin_row(ys, a.y + i * a.d);
    Floats most = broadcast(-__builtin_inff());
    each_vector(a.d, [&](std::int64_t j, int n) { most = larger(with_rest(load_n(x + j, n), n, -__builtin_inff()), most); });
    const Floats top = broadcast(max_lanes(most));
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_next(a.x, i, a.d, j);
      const Floats power = exp_of(with_rest(load_n(x + j, n) - top, n, -__builtin_inff()));
      if (is_kept) store(kept + j, power);
      sums += power;
    });
    const Floats factor = broadcast(1.0f / sum_lanes(sums));
    // Exponentials of a wide row are taken twice rather than kept in y, which may hold 16 bits.
    each_vector(a.d, [&](std::int64_t j, int n) {
      store_n(y + j, (is_kept ? load(kept + j) : exp_of(load_n(x + j, n) - top)) * factor, n);
    });
    end_row(ys, a.y + i * a.d, a.d);
  }
  end_rows(ys);
}

template <class T>
static void softmax_backward_of(const SoftmaxBackwardArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  RowsAround<T> dxs;
  decide(dxs, a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.y);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* dy = a.dy + i * a.d;
    const T* y = a.y + i * a.d;
    T* dx = begin_row(dxs, a.dx + i * a.d);
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) { sums += load_n(dy + j, n) * load_n(y + j, n); });
    const Floats shared = broadcast(sum_lanes(sums));
    each_vector(a.d, [&](std::int64_t j, int n) {
      fetch_next(a.dy, i, a.d, j);
      fetch_next(a.y, i, a.d, j);
      store_n(dx + j, load_n(y + j, n) * (load_n(dy + j, n) - shared), n);
    });
    end_row(dxs, a.dx + i * a.d, a.d);
  }
  end_rows(dxs);
}

RL_DEFINE(softmax, SoftmaxArguments)
RL_DEFINE(softmax_backward, SoftmaxBackwardArguments)

}  // namespace raylite::RL_ISA

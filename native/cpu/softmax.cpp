// softmax, softmax_backward: rows split among threads.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

template <class T>
static void softmax_of(const SoftmaxArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* x = a.x + i * a.d;
    T* y = a.y + i * a.d;
    Floats most = broadcast(-__builtin_inff());
    each_vector(a.d, [&](std::int64_t j, int n) { most = larger(with_rest(load_n(x + j, n), n, -__builtin_inff()), most); });
    const Floats top = broadcast(max_lanes(most));
    // Exponentials are taken twice rather than kept in y, which may hold 16 bits.
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) { sums += exp_of(with_rest(load_n(x + j, n) - top, n, -__builtin_inff())); });
    const Floats factor = broadcast(1.0f / sum_lanes(sums));
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(y + j, exp_of(load_n(x + j, n) - top) * factor, n); });
  }
}

template <class T>
static void softmax_backward_of(const SoftmaxBackwardArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* dy = a.dy + i * a.d;
    const T* y = a.y + i * a.d;
    T* dx = a.dx + i * a.d;
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) { sums += load_n(dy + j, n) * load_n(y + j, n); });
    const Floats shared = broadcast(sum_lanes(sums));
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(dx + j, load_n(y + j, n) * (load_n(dy + j, n) - shared), n); });
  }
}

RL_DEFINE(softmax, SoftmaxArguments)
RL_DEFINE(softmax_backward, SoftmaxBackwardArguments)

}  // namespace raylite::RL_ISA

// softmax, softmax_backward: rows split among threads.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

void softmax(const SoftmaxArguments& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const float* x = a.x + i * a.d;
    float* y = a.y + i * a.d;
    float top = x[0];
    for (std::int64_t j = 1; j < a.d; j++) top = x[j] > top ? x[j] : top;
    const Floats shift = broadcast(top);
    // Lanes behind the end of a row must not count: they are summed from memory.
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(y + j, exp_of(load_n(x + j, n) - shift), n); });
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) { sums += load_n(y + j, n); });
    const Floats factor = broadcast(1.0f / sum_lanes(sums));
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(y + j, load_n(y + j, n) * factor, n); });
  }
}

void softmax_backward(const SoftmaxBackwardArguments& a, const Team& team) {
  const Range rows = share_rows(team, a.n, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const float* dy = a.dy + i * a.d;
    const float* y = a.y + i * a.d;
    float* dx = a.dx + i * a.d;
    Floats sums{};
    each_vector(a.d, [&](std::int64_t j, int n) { sums += load_n(dy + j, n) * load_n(y + j, n); });
    const Floats shared = broadcast(sum_lanes(sums));
    each_vector(a.d, [&](std::int64_t j, int n) { store_n(dx + j, load_n(y + j, n) * (load_n(dy + j, n) - shared), n); });
  }
}

}  // namespace raylite::RL_ISA

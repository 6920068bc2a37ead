// softmax, softmax_backward: rows split among threads.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/row_phases.h"

namespace raylite::RL_ISA {

namespace {

constexpr float kHidden = -__builtin_inff();
constexpr float kLog2OfE = 1.44269504088896341f;

/// Powers of 2 rather than of e are cheaper: what the exponent is rounded by is nothing beside numbers of which the largest is 1.
template <int kParts>
RL_INLINE Block<kParts> power_of(const Block<kParts>& x, float top) {
  return map_block((x - top) * kLog2OfE, [](Floats part) __attribute__((always_inline)) { return exp2_of(part); });
}

template <int kParts>
RL_INLINE float max_block(const Block<kParts>& x) {
  Floats most = x.part[0];
  for (int k = 1; k < kParts; k++) most = larger(x.part[k], most);
  return max_lanes(most);
}

template <class T>
struct Softmax {
  using Number = T;
  static constexpr int kPhases = 3;
  static constexpr int kParts = kPartsOf<T>;
  const SoftmaxArguments<T> a;  // by value: stores do not alias it
  float* kept;                  // [2, kKeptWidth]: powers of rows that are not wider
  const bool is_kept = a.d <= kKeptWidth;
  const Writer<T> y{a.y, a.n, a.d, a.y == a.x};

  struct State {
    float top, factor;
    Block<kParts> most, sums;
  };

  RL_MEMBER void first(State& state, std::int64_t i, std::int64_t j, int n) const {
    const Block<kParts> x = with_rest(load_block<kParts>(a.x + i * a.d + j, n), n, kHidden);
    for (int k = 0; k < kParts; k++) state.most.part[k] = j == 0 ? x.part[k] : larger(x.part[k], state.most.part[k]);
  }
  RL_MEMBER void after_first(State& state, std::int64_t) const { state.top = max_block(state.most); }
  RL_MEMBER void second(State& state, std::int64_t i, std::int64_t j, int n) const {
    const Block<kParts> power = power_of(with_rest(load_block<kParts>(a.x + i * a.d + j, n), n, kHidden), state.top);
    if (is_kept) store_block(kept + (i % 2) * kKeptWidth + j, power, n);
    state.sums = state.sums + power;
  }
  RL_MEMBER void after_second(State& state, std::int64_t) const { state.factor = 1.0f / sum_block(state.sums); }
  RL_MEMBER void third(const State& state, std::int64_t i, std::int64_t j, int n) const {
    // Powers of a wide row are taken twice rather than kept in y, which may hold 16 bits.
    const Block<kParts> power = is_kept ? load_block<kParts>(kept + (i % 2) * kKeptWidth + j, n)
                                        : power_of(load_block<kParts>(a.x + i * a.d + j, n), state.top);
    y.put(a.y + i * a.d + j, power * state.factor, n);
  }
};

}  // namespace

template <class T>
static void softmax_of(const SoftmaxArguments<T>& a, const Team& team) {
  alignas(64) float kept[2 * kKeptWidth];
  const Softmax<T> kernel{a, kept};
  each_row_in_three_phases(share_rows(team, a.n, a.d), a.d, kernel);
  kernel.y.end();
}

template <class T>
static void softmax_backward_of(const SoftmaxBackwardArguments<T>& a, const Team& team) {
  constexpr int kParts = kPartsOf<T>;
  const Range rows = share_rows(team, a.n, a.d);
  const Writer<T> dx{a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.y};
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const T* dy = a.dy + i * a.d;
    const T* y = a.y + i * a.d;
    Block<kParts> sums{};
    each_block<T>(a.d, [&](std::int64_t j, int n) {
      fetch(dy + a.d + j);
      sums = sums + load_block<kParts>(dy + j, n) * load_block<kParts>(y + j, n);
    });
    const float shared = sum_block(sums);
    each_block<T>(a.d, [&](std::int64_t j, int n) {
      fetch(y + a.d + j);
      dx.put(a.dx + i * a.d + j, load_block<kParts>(y + j, n) * (load_block<kParts>(dy + j, n) - shared), n);
    });
  }
  dx.end();
}

RL_DEFINE(softmax, SoftmaxArguments)
RL_DEFINE(softmax_backward, SoftmaxBackwardArguments)

}  // namespace raylite::RL_ISA

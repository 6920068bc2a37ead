// layer_norm (with and without a residual), layer_norm_backward.
#include "cpu/kernels.h"
#include "cpu/norm_rows.h"
#include "cpu/reduce_rows.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
struct LayerNorm {
  using Number = T;
  static constexpr int kParts = kPartsOf<T>;
  const LayerNormArguments<T> a;  // by value: stores do not alias it
  const SeenRows<T, LayerNormArguments<T>> seen;
  const Writer<T> y{a.y, a.n, a.d, false};
  const float per_d = 1.0f / static_cast<float>(a.d);

  // The variance of 16-bit numbers is taken in the same pass as the mean, around the first number of the row. It is at most
  // sqrt(d - 1) standard deviations off the mean, so that what cancels is far less than what they are rounded by.
  static constexpr bool kInOnePass = sizeof(T) == 2;

  struct State {
    float pivot, mean, rstd;
    Block<kParts> total, squares;
  };

  RL_MEMBER void first(State& state, std::int64_t i, std::int64_t j, int n) const {
    Block<kParts> value = seen.see(i, j, n);
    if constexpr (kInOnePass) {
      if (j == 0) state.pivot = value.part[0][0];
      value = with_rest(value - state.pivot, n, 0);
      state.squares = state.squares + value * value;
    }
    state.total = state.total + value;
  }
  RL_MEMBER void after_first(State& state, std::int64_t i) const {
    const float off = sum_block(state.total) * per_d;
    state.mean = kInOnePass ? state.pivot + off : off;
    float variance;
    if constexpr (kInOnePass) {
      const float found = sum_block(state.squares) * per_d - off * off;
      variance = found < 0 ? 0 : found;
    } else {
      const T* x = seen.row_again(i);
      variance = per_d * sum_over_blocks<T>(a.d, [&](std::int64_t j, int n) __attribute__((always_inline)) {
        // Lanes beyond the row must not count: they hold 0, not the mean.
        const Block<kParts> centred = with_rest(load_block<kParts>(x + j, n) - state.mean, n, 0);
        return centred * centred;
      });
    }
    state.rstd = 1.0f / __builtin_sqrtf(variance + a.eps);
    a.mean[i] = state.mean;
    a.rstd[i] = state.rstd;
  }
  RL_MEMBER void second(const State& state, std::int64_t i, std::int64_t j, int n) const {
    const Block<kParts> normal = (load_block<kParts>(seen.row_again(i) + j, n) - state.mean) * state.rstd;
    y.put(a.y + i * a.d + j, normal * load_block<kParts>(a.gain + j, n) + load_block<kParts>(a.bias + j, n), n);
  }
};

template <class T>
struct LayerNormBackward {
  using Number = T;
  static constexpr int kParts = kPartsOf<T>;
  const LayerNormBackwardArguments<T> a;  // by value: stores do not alias it
  float* dgain;  // this thread's sums
  float* dbias;
  const Writer<T> dx{a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.addend};
  const float per_d = 1.0f / static_cast<float>(a.d);

  struct State {
    float rstd, shift, along;
    Block<kParts> total, projected;
  };

  RL_MEMBER Block<kParts> centred(std::int64_t i, std::int64_t j, int n) const {
    return load_block<kParts>(a.x + i * a.d + j, n) - a.mean[i];
  }

  RL_MEMBER void first(State& state, std::int64_t i, std::int64_t j, int n) const {
    const std::int64_t at = i * a.d + j;
    fetch_behind(a.dy + at);
    fetch_behind(a.x + at);
    const Block<kParts> g = load_block<kParts>(a.dy + at, n);
    const Block<kParts> gains = load_block<kParts>(a.gain + j, n);
    const Block<kParts> product = g * centred(i, j, n);
    state.total = state.total + g * gains;
    state.projected = state.projected + product * gains;
    store_block(dgain + j, load_block<kParts>(dgain + j, n) + product * a.rstd[i], n);
    store_block(dbias + j, load_block<kParts>(dbias + j, n) + g, n);
  }
  RL_MEMBER void after_first(State& state, std::int64_t i) const {
    state.rstd = a.rstd[i];
    state.shift = sum_block(state.total) * per_d * state.rstd;
    state.along = sum_block(state.projected) * per_d * state.rstd * state.rstd * state.rstd;
  }
  RL_MEMBER void second(const State& state, std::int64_t i, std::int64_t j, int n) const {
    const std::int64_t at = i * a.d + j;
    const Block<kParts> scaled = load_block<kParts>(a.dy + at, n) * load_block<kParts>(a.gain + j, n);
    Block<kParts> value = scaled * state.rstd - (centred(i, j, n) * state.along + state.shift);
    if (a.addend != nullptr) {
      fetch_behind(a.addend + at);
      value = value + load_block<kParts>(a.addend + at, n);
    }
    dx.put(a.dx + at, value, n);
  }
};

}  // namespace

template <class T>
static void layer_norm_of(const LayerNormArguments<T>& a, const Team& team) {
  alignas(64) T kept[kRowsUnderWay * kKeptWidth];
  const LayerNorm<T> kernel{a, {a, kept}};
  each_row_in_two_phases(share_rows(team, a.n, a.d), a.d, kernel);
  kernel.seen.sum.end();
  kernel.y.end();
}

template <class T>
static void layer_norm_backward_of(const LayerNormBackwardArguments<T>& a, const Team& team) {
  float* dgain = partial_row(team, 2 * a.d);
  const LayerNormBackward<T> kernel{a, dgain, dgain + a.d};
  each_row_in_two_phases(share_rows(team, a.n, a.d), a.d, kernel);
  kernel.dx.end();
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

// rms_norm (with and without a residual), rms_norm_backward.
#include "cpu/kernels.h"
#include "cpu/norm_rows.h"
#include "cpu/reduce_rows.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
struct RmsNorm {
  using Number = T;
  static constexpr int kParts = kPartsOf<T>;
  const RmsNormArguments<T> a;  // by value: stores do not alias it
  const SeenRows<T, RmsNormArguments<T>> seen;
  const Writer<T> y{a.y, a.n, a.d, false};

  struct State {
    float rstd;
    Block<kParts> squares;
  };

  RL_MEMBER void first(State& state, std::int64_t i, std::int64_t j, int n) const {
    const Block<kParts> value = seen.see(i, j, n);
    state.squares = state.squares + value * value;
  }
  RL_MEMBER void after_first(State& state, std::int64_t i) const {
    state.rstd = 1.0f / __builtin_sqrtf(sum_block(state.squares) / static_cast<float>(a.d) + a.eps);
    a.rstd[i] = state.rstd;
  }
  RL_MEMBER void second(const State& state, std::int64_t i, std::int64_t j, int n) const {
    const Block<kParts> value = load_block<kParts>(seen.row_again(i) + j, n);
    y.put(a.y + i * a.d + j, value * state.rstd * load_block<kParts>(a.gain + j, n), n);
  }
};

template <class T>
struct RmsNormBackward {
  using Number = T;
  static constexpr int kParts = kPartsOf<T>;
  const RmsNormBackwardArguments<T> a;  // by value: stores do not alias it
  float* dgain;  // this thread's sum
  const Writer<T> dx{a.dx, a.n, a.d, a.dx == a.dy || a.dx == a.addend};

  struct State {
    float rstd, along;
    Block<kParts> projected;
  };

  RL_MEMBER void first(State& state, std::int64_t i, std::int64_t j, int n) const {
    const std::int64_t at = i * a.d + j;
    fetch_behind(a.dy + at);
    fetch_behind(a.x + at);
    const Block<kParts> product = load_block<kParts>(a.dy + at, n) * load_block<kParts>(a.x + at, n);
    state.projected = state.projected + product * load_block<kParts>(a.gain + j, n);
    store_block(dgain + j, load_block<kParts>(dgain + j, n) + product * a.rstd[i], n);
  }
  RL_MEMBER void after_first(State& state, std::int64_t i) const {
    state.rstd = a.rstd[i];
    state.along = sum_block(state.projected) / static_cast<float>(a.d) * state.rstd * state.rstd * state.rstd;
  }
  RL_MEMBER void second(const State& state, std::int64_t i, std::int64_t j, int n) const {
    const std::int64_t at = i * a.d + j;
    const Block<kParts> scaled = load_block<kParts>(a.dy + at, n) * load_block<kParts>(a.gain + j, n);
    Block<kParts> value = scaled * state.rstd - load_block<kParts>(a.x + at, n) * state.along;
    if (a.addend != nullptr) {
      fetch_behind(a.addend + at);
      value = value + load_block<kParts>(a.addend + at, n);
    }
    dx.put(a.dx + at, value, n);
  }
};

}  // namespace

template <class T>
static void rms_norm_of(const RmsNormArguments<T>& a, const Team& team) {
  alignas(64) T kept[kRowsUnderWay * kKeptWidth];
  const RmsNorm<T> kernel{a, {a, kept}};
  each_row_in_two_phases(share_rows(team, a.n, a.d), a.d, kernel);
  kernel.seen.sum.end();
  kernel.y.end();
}

template <class T>
static void rms_norm_backward_of(const RmsNormBackwardArguments<T>& a, const Team& team) {
  const RmsNormBackward<T> kernel{a, partial_row(team, a.d)};
  each_row_in_two_phases(share_rows(team, a.n, a.d), a.d, kernel);
  kernel.dx.end();
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

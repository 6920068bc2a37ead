// activation, gated_activation and their gradients: bound by memory, packs of 16 bytes.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/math.cuh"

namespace raylite::cuda {

namespace {

template <class T, Activation kKind>
struct Forward {
  ActivationArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> x = load_pack<W>(a.x + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) x.at[j] = activate<kKind>(x.at[j]);
    store_pack<W>(a.y + i, x);
  }
};

template <class T, Activation kKind>
struct Backward {
  ActivationBackwardArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> dy = load_pack<W>(a.dy + i);
    const Pack<W> x = load_pack<W>(a.x + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) dy.at[j] *= activate_slope<kKind>(x.at[j]);
    store_pack<W>(a.dx + i, dy);
  }
};

template <class T, Activation kKind>
struct GatedForward {
  GatedActivationArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    Pack<W> gate = load_pack<W>(a.gate + i);
    const Pack<W> up = load_pack<W>(a.up + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) gate.at[j] = activate<kKind>(gate.at[j]) * up.at[j];
    store_pack<W>(a.y + i, gate);
  }
};

template <class T, Activation kKind>
struct GatedBackward {
  GatedActivationBackwardArguments<T> a;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const Pack<W> dy = load_pack<W>(a.dy + i);
    Pack<W> gate = load_pack<W>(a.gate + i);
    Pack<W> up = load_pack<W>(a.up + i);
    RL_UNROLL
    for (int j = 0; j < W; j++) {
      const float g = gate.at[j];
      gate.at[j] = dy.at[j] * up.at[j] * activate_slope<kKind>(g);
      up.at[j] = dy.at[j] * activate<kKind>(g);
    }
    store_pack<W>(a.dgate + i, gate);
    store_pack<W>(a.dup + i, up);
  }
};

template <class T, template <class, Activation> class Op, class Arguments, class... P>
void run_kind(const Arguments& a, const Team& team, const P*... operands) {
  with_kind(a.kind, [&](auto kind) {
    each_element<kPack<T>>(*team.queue, a.n, are_aligned(operands...), Op<T, decltype(kind)::value>{a});
  });
}

}  // namespace

template <class T>
Kernel<ActivationArguments<T>> activation() {
  return {[](const ActivationArguments<T>& a, const Team& team) { run_kind<T, Forward>(a, team, a.x, a.y); }, nullptr};
}
template <class T>
Kernel<ActivationBackwardArguments<T>> activation_backward() {
  return {[](const ActivationBackwardArguments<T>& a, const Team& team) { run_kind<T, Backward>(a, team, a.dy, a.x, a.dx); }, nullptr};
}
template <class T>
Kernel<GatedActivationArguments<T>> gated_activation() {
  return {[](const GatedActivationArguments<T>& a, const Team& team) { run_kind<T, GatedForward>(a, team, a.gate, a.up, a.y); }, nullptr};
}
template <class T>
Kernel<GatedActivationBackwardArguments<T>> gated_activation_backward() {
  return {[](const GatedActivationBackwardArguments<T>& a, const Team& team) {
            run_kind<T, GatedBackward>(a, team, a.dy, a.gate, a.up, a.dgate, a.dup);
          },
          nullptr};
}

RL_FOR_TYPES(activation, ActivationArguments)
RL_FOR_TYPES(activation_backward, ActivationBackwardArguments)
RL_FOR_TYPES(gated_activation, GatedActivationArguments)
RL_FOR_TYPES(gated_activation_backward, GatedActivationBackwardArguments)

}  // namespace raylite::cuda

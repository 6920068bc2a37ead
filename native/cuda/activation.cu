// activation, gated_activation and their gradients: bound by memory, packs of 16 bytes.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"
#include "cuda/math.cuh"

namespace raylite::cuda {

namespace {

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

/// y = f(operands…) for the function F of the kind.
template <template <Activation> class F, class Arguments, class... P>
void map_kind(const Arguments& a, const Team& team, P... operands) {
  with_kind(a.kind, [&](auto kind) { map(*team.queue, a.n, F<decltype(kind)::value>{}, operands...); });
}

template <class T>
void run_gated_backward(const GatedActivationBackwardArguments<T>& a, const Team& team) {
  const bool aligned = are_aligned(a.dy, a.gate, a.up, a.dgate, a.dup);
  with_kind(a.kind, [&](auto kind) { each_element<kPack<T>>(*team.queue, a.n, aligned, GatedBackward<T, decltype(kind)::value>{a}); });
}

}  // namespace

template <class T>
Kernel<ActivationArguments<T>> activation() {
  return {[](const ActivationArguments<T>& a, const Team& team) { map_kind<Activate>(a, team, a.x, a.y); }, nullptr};
}
template <class T>
Kernel<ActivationBackwardArguments<T>> activation_backward() {
  return {[](const ActivationBackwardArguments<T>& a, const Team& team) { map_kind<ActivateGradient>(a, team, a.dy, a.x, a.dx); }, nullptr};
}
template <class T>
Kernel<GatedActivationArguments<T>> gated_activation() {
  return {[](const GatedActivationArguments<T>& a, const Team& team) { map_kind<ActivateGate>(a, team, a.gate, a.up, a.y); }, nullptr};
}
template <class T>
Kernel<GatedActivationBackwardArguments<T>> gated_activation_backward() {
  return {run_gated_backward<T>, nullptr};
}

RL_FOR_TYPES(activation, ActivationArguments)
RL_FOR_TYPES(activation_backward, ActivationBackwardArguments)
RL_FOR_TYPES(gated_activation, GatedActivationArguments)
RL_FOR_TYPES(gated_activation_backward, GatedActivationBackwardArguments)

}  // namespace raylite::cuda

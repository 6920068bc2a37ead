// What the bind functions of the optimisers share: which form the tensors have, and the operands that all of them take.
#pragma once
#include <type_traits>

#include "core/bind.h"

namespace raylite {

template <class F>
constexpr bool kIsByChance = !std::is_same_v<typename F::P, float> || !std::is_same_v<typename F::S, float>;

/// Calls bind(kernels of the form) for the form that the types of p, of the first state and of the last output make.
template <class Bind>
Bound for_form(Binder& in, const Kernels& kernels, Bind bind) {
  const DType parameter = in.input_dtype(0);
  const bool has_bf16_state = in.input_dtype(1) == DType::kBF16;
  if (parameter == DType::kBF16) return has_bf16_state ? bind(kernels.bf16_parameters_and_state) : bind(kernels.bf16_parameters);
  if (has_bf16_state) return bind(kernels.bf16_masters_and_state);
  switch (in.last_output_dtype()) {
    case DType::kBF16:
      return bind(kernels.bf16_masters);
    case DType::kF16:
      return bind(kernels.f16_masters);
    default:
      return bind(kernels.floats);
  }
}

/// Defines the bind function of an optimiser from its template of the same name.
#define RAYLITE_BIND_STEP(name)                                                                             \
  Bound bind_##name(Binder& in, const Kernels& kernels) {                                                   \
    return for_form(in, kernels, [&](const auto& of_form) { return bind_##name(in, of_form); });            \
  }

/// The last input, where something is rounded by chance: seed (low word, high word), step.
template <class F>
void bind_random(Binder& in, StepArguments<F>& a) {
  if constexpr (kIsByChance<F>) {
    Dim three("3", 3);
    a.random = in.ints("random", {&three});
  }
}

/// The optional input before: beta1 of this step.
template <class F>
void bind_momentum(Binder& in, MomentumStepArguments<F>& a) {
  Dim one("1", 1);
  if (in.inputs_left() > (kIsByChance<F> ? 1 : 0)) a.beta1_of_step = in.input("beta1", {&one});
}

/// The optional last output: the parameters rounded to R.
template <class F>
void bind_rounded(Binder& in, StepArguments<F>& a, Dim& n) {
  if constexpr (!std::is_same_v<typename F::R, float>) a.rounded = in.flat_output<typename F::R>("rounded", n);
}

/// The last attributes, where something is rounded by chance. Chances come by blocks of 32 elements.
template <class F>
void bind_chance(Binder& in, StepArguments<F>& a) {
  if constexpr (kIsByChance<F>) {
    a.stream = static_cast<std::uint32_t>(in.integer("stream", 0, UINT32_MAX));
    a.first = in.integer("first", 0, std::int64_t{1} << 48);
    if (a.first % 32 != 0) in.fail_shape("attribute \"first\" must be a multiple of 32");
    if (a.decay_end % 32 != 0 && a.decay_end != a.n) in.fail_shape("attribute \"decayEnd\" must be a multiple of 32");
  }
}

}  // namespace raylite

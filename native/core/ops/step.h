// What the steps of all optimisers have in common: how their numbers are stored, and the arguments that each of them takes.
#pragma once
#include <cstdint>

#include "core/storage.h"

namespace raylite {

/// Parameters P that are stepped, state S, and R, in which stepped floats are stored besides (float: nowhere). What is
/// stepped or kept in bf16 is rounded by chance: up or down with the probability that keeps the mean.
template <class P_, class S_, class R_>
struct StepForm {
  using P = P_;
  using S = S_;
  using R = R_;
};

/// The forms that there are: float, masters of 16-bit parameters, the same with bf16 state, bf16 parameters without masters.
#define RAYLITE_STEP_FORMS(X)                                           \
  X(floats, StepForm<float, float, float>)                              \
  X(bf16_masters, StepForm<float, float, BFloat16>)                     \
  X(f16_masters, StepForm<float, float, Float16>)                       \
  X(bf16_masters_and_state, StepForm<float, BFloat16, BFloat16>)        \
  X(bf16_parameters, StepForm<BFloat16, float, float>)                  \
  X(bf16_parameters_and_state, StepForm<BFloat16, BFloat16, float>)

/// Elements from decay_end on do not decay. A factor that is NaN leaves p and state as they are; p is
/// rounded all the same.
/// The chance of an element depends on the seed and the step in `random` (low word, high word, step), on the stream, and
/// on first + its index, where it lies in the whole that slices are cut from.
template <class F>
struct StepArguments {
  typename F::P* p;
  const float* g;
  const float* factor;
  const float* lr;
  typename F::R* rounded;  // null for float
  const std::int32_t* random;  // null unless something is rounded by chance
  std::uint32_t stream;
  std::int64_t first;
  std::int64_t n, decay_end;
  double weight_decay;
};

/// What optimisers with a first momentum add: beta1, or of this step the number in beta1_of_step, where a schedule moves it.
template <class F>
struct MomentumStepArguments : StepArguments<F> {
  const float* beta1_of_step;  // null: beta1
  double beta1;
};

}  // namespace raylite

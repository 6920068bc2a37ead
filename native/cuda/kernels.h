// Every kernel by the name of its op: what goes into the table of core/kernels.h. Contracts: core/ops/. An op's file defines
// `template <class T> Kernel<Arguments<T>> name()` and instantiates it for the storage types.
#pragma once
#include "core/kernels.h"
#include "core/ops/collectives.h"
#include "cuda/queue.h"

/// The ops that exist for each storage type, in the order of KernelsOf.
#define RL_CUDA_STORED(X)                                          \
  X(embedding, EmbeddingArguments)                                 \
  X(embedding_backward, EmbeddingBackwardArguments)                \
  X(layer_norm, LayerNormArguments)                                \
  X(layer_norm_backward, LayerNormBackwardArguments)               \
  X(rms_norm, RmsNormArguments)                                    \
  X(rms_norm_backward, RmsNormBackwardArguments)                   \
  X(activation, ActivationArguments)                               \
  X(activation_backward, ActivationBackwardArguments)              \
  X(gated_activation, GatedActivationArguments)                    \
  X(gated_activation_backward, GatedActivationBackwardArguments)   \
  X(rotary, RotaryArguments)                                       \
  X(softmax, SoftmaxArguments)                                     \
  X(softmax_backward, SoftmaxBackwardArguments)                    \
  X(linear, LinearArguments)                                       \
  X(linear_backward_input, LinearBackwardInputArguments)           \
  X(linear_backward_weight, LinearBackwardWeightArguments)         \
  X(linear_nf4, LinearNf4Arguments)                                \
  X(linear_nf4_backward_input, LinearNf4BackwardInputArguments)    \
  X(attention, AttentionArguments)                                 \
  X(attention_backward, AttentionBackwardArguments)                \
  X(kv_append, KvAppendArguments)                                  \
  X(attention_cached, AttentionCachedArguments)                    \
  X(linear_cross_entropy, LinearCrossEntropyArguments)             \
  X(vocabulary_logits, VocabularyLossArguments)                    \
  X(vocabulary_loss_grad, VocabularyLossArguments)                 \
  X(heads_to_parts, HeadsToPartsArguments)                         \
  X(parts_to_heads, PartsToHeadsArguments)                         \
  X(dropout, DropoutArguments)                                     \
  X(target_loss, TargetLossArguments)                              \
  X(target_loss_backward, TargetLossBackwardArguments)             \
  X(add, AddArguments)                                             \
  X(scale, ScaleArguments)                                         \
  X(cast, CastArguments)                                           \
  X(copy, CopyArguments)                                           \
  X(fill, FillArguments)                                           \
  X(gather_rows, GatherRowsArguments)                              \
  X(block_quantise, BlockQuantiseArguments)                        \
  X(block_dequantise, BlockDequantiseArguments)

/// The optimisers, in the order of StepKernels.
#define RL_CUDA_STEPS(X) X(adamw, AdamWArguments) X(lion, LionArguments) X(adagrad, AdagradArguments) X(sgd, SgdArguments) X(muon, MuonArguments)

/// Instantiates an op for every storage type, or an optimiser for every form.
#define RL_FOR_TYPES(name, Arguments)             \
  template Kernel<Arguments<float>> name<float>();       \
  template Kernel<Arguments<BFloat16>> name<BFloat16>(); \
  template Kernel<Arguments<Float16>> name<Float16>();
#define RL_STEP_FORM(name, Arguments, ...) template Kernel<Arguments<__VA_ARGS__>> name<__VA_ARGS__>();
#define RL_FOR_FORMS(name, Arguments)                                     \
  RL_STEP_FORM(name, Arguments, StepForm<float, float, float>)            \
  RL_STEP_FORM(name, Arguments, StepForm<float, float, BFloat16>)         \
  RL_STEP_FORM(name, Arguments, StepForm<float, float, Float16>)          \
  RL_STEP_FORM(name, Arguments, StepForm<float, BFloat16, BFloat16>)      \
  RL_STEP_FORM(name, Arguments, StepForm<BFloat16, float, float>)         \
  RL_STEP_FORM(name, Arguments, StepForm<BFloat16, BFloat16, float>)

namespace raylite::cuda {

#define RL_CUDA_DECLARE(name, Arguments) \
  template <class T>                     \
  Kernel<Arguments<T>> name();
RL_CUDA_STORED(RL_CUDA_DECLARE)
RL_CUDA_STEPS(RL_CUDA_DECLARE)
#undef RL_CUDA_DECLARE
Kernel<LogSumExpArguments> log_sum_exp();
Kernel<ChooseTokenArguments> choose_token();
Kernel<VocabularyLossArguments<float>> vocabulary_loss();
Kernel<SumSquaresArguments> sum_squares();
Kernel<ClipFactorArguments> clip_factor();
Kernel<CollectiveArguments> collective();

const Kernels& kernels();

}  // namespace raylite::cuda

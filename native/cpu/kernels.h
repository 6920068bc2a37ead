// Every kernel of one instruction set, by the name of its op. Contracts: core/ops/.
#pragma once
#include "core/kernels.h"
#include "core/team.h"
#include "cpu/storage.h"

namespace raylite::RL_ISA {

// Kernels for every storage type. RL_DEFINE makes them of a template <name>_of in the op's file: plain functions, because
// templates would be weak symbols, which the linker may merge across instruction sets.
#define RL_DECLARE(name, Arguments)                       \
  void name(const Arguments<float>&, const Team&);    \
  void name(const Arguments<BFloat16>&, const Team&); \
  void name(const Arguments<Float16>&, const Team&);
#define RL_DEFINE(name, Arguments)                                                      \
  void name(const Arguments<float>& a, const Team& team) { name##_of(a, team); }    \
  void name(const Arguments<BFloat16>& a, const Team& team) { name##_of(a, team); } \
  void name(const Arguments<Float16>& a, const Team& team) { name##_of(a, team); }
// The same for their bytes of workspace for a team of `threads`.
#define RL_DECLARE_WORKSPACE(name, Arguments)                        \
  std::size_t name##_workspace(const Arguments<float>&, int threads);    \
  std::size_t name##_workspace(const Arguments<BFloat16>&, int threads); \
  std::size_t name##_workspace(const Arguments<Float16>&, int threads);
#define RL_DEFINE_WORKSPACE(name, Arguments)                                                                            \
  std::size_t name##_workspace(const Arguments<float>& a, int threads) { return name##_workspace_of(a, threads); }    \
  std::size_t name##_workspace(const Arguments<BFloat16>& a, int threads) { return name##_workspace_of(a, threads); } \
  std::size_t name##_workspace(const Arguments<Float16>& a, int threads) { return name##_workspace_of(a, threads); }

// The same for optimisers, for every form in which their numbers are stored.
#define RL_STEP_OF(name, Arguments, ...) \
  void name(const Arguments<__VA_ARGS__>& a, const Team& team) { name##_of(a, team); }
#define RL_DECLARE_STEPS(form, ...)                            \
  void adamw(const AdamWArguments<__VA_ARGS__>&, const Team&);     \
  void lion(const LionArguments<__VA_ARGS__>&, const Team&);       \
  void adagrad(const AdagradArguments<__VA_ARGS__>&, const Team&); \
  void sgd(const SgdArguments<__VA_ARGS__>&, const Team&);         \
  void muon(const MuonArguments<__VA_ARGS__>&, const Team&);       \
  std::size_t muon_workspace(const MuonArguments<__VA_ARGS__>&, int threads);
RAYLITE_STEP_FORMS(RL_DECLARE_STEPS)

RL_DECLARE(embedding, EmbeddingArguments)
RL_DECLARE(embedding_backward, EmbeddingBackwardArguments)
RL_DECLARE(layer_norm, LayerNormArguments)
RL_DECLARE(layer_norm_backward, LayerNormBackwardArguments)
RL_DECLARE(rms_norm, RmsNormArguments)
RL_DECLARE(rms_norm_backward, RmsNormBackwardArguments)
RL_DECLARE(activation, ActivationArguments)
RL_DECLARE(activation_backward, ActivationBackwardArguments)
RL_DECLARE(gated_activation, GatedActivationArguments)
RL_DECLARE(gated_activation_backward, GatedActivationBackwardArguments)
RL_DECLARE(rotary, RotaryArguments)
RL_DECLARE(softmax, SoftmaxArguments)
RL_DECLARE(softmax_backward, SoftmaxBackwardArguments)
RL_DECLARE(linear, LinearArguments)
RL_DECLARE(linear_backward_input, LinearBackwardInputArguments)
RL_DECLARE(linear_backward_weight, LinearBackwardWeightArguments)
RL_DECLARE(linear_nf4, LinearNf4Arguments)
RL_DECLARE(linear_nf4_backward_input, LinearNf4BackwardInputArguments)
RL_DECLARE(attention, AttentionArguments)
RL_DECLARE(attention_backward, AttentionBackwardArguments)
RL_DECLARE(kv_append, KvAppendArguments)
RL_DECLARE(attention_cached, AttentionCachedArguments)
RL_DECLARE(linear_cross_entropy, LinearCrossEntropyArguments)
RL_DECLARE(vocabulary_logits, VocabularyLossArguments)
RL_DECLARE(vocabulary_loss_grad, VocabularyLossArguments)
RL_DECLARE(heads_to_parts, HeadsToPartsArguments)
RL_DECLARE(parts_to_heads, PartsToHeadsArguments)
RL_DECLARE(dropout, DropoutArguments)
RL_DECLARE(target_loss, TargetLossArguments)
RL_DECLARE(target_loss_backward, TargetLossBackwardArguments)
RL_DECLARE(add, AddArguments)
RL_DECLARE(scale, ScaleArguments)
RL_DECLARE(cast, CastArguments)
RL_DECLARE(copy, CopyArguments)
RL_DECLARE(fill, FillArguments)
RL_DECLARE(gather_rows, GatherRowsArguments)
RL_DECLARE(block_quantise, BlockQuantiseArguments)
RL_DECLARE(block_dequantise, BlockDequantiseArguments)
void log_sum_exp(const LogSumExpArguments&, const Team&);
void choose_token(const ChooseTokenArguments&, const Team&);
void vocabulary_loss(const VocabularyLossArguments<float>&, const Team&);
void sum_squares(const SumSquaresArguments&, const Team&);
void clip_factor(const ClipFactorArguments&, const Team&);
void fill_normal(float* y, std::int64_t begin, std::int64_t end, std::uint32_t key0, std::uint32_t key1, float std);
double measure_peak(double seconds);

// Bytes of workspace for a team of `threads`.
RL_DECLARE_WORKSPACE(linear, LinearArguments)
RL_DECLARE_WORKSPACE(linear_backward_input, LinearBackwardInputArguments)
RL_DECLARE_WORKSPACE(linear_backward_weight, LinearBackwardWeightArguments)
RL_DECLARE_WORKSPACE(linear_nf4, LinearNf4Arguments)
RL_DECLARE_WORKSPACE(linear_nf4_backward_input, LinearNf4BackwardInputArguments)
RL_DECLARE_WORKSPACE(attention, AttentionArguments)
RL_DECLARE_WORKSPACE(attention_backward, AttentionBackwardArguments)
RL_DECLARE_WORKSPACE(attention_cached, AttentionCachedArguments)
RL_DECLARE_WORKSPACE(linear_cross_entropy, LinearCrossEntropyArguments)
RL_DECLARE_WORKSPACE(vocabulary_logits, VocabularyLossArguments)
RL_DECLARE_WORKSPACE(vocabulary_loss_grad, VocabularyLossArguments)
RL_DECLARE_WORKSPACE(layer_norm_backward, LayerNormBackwardArguments)
RL_DECLARE_WORKSPACE(rms_norm_backward, RmsNormBackwardArguments)
std::size_t choose_token_workspace(const ChooseTokenArguments&, int threads);
std::size_t vocabulary_loss_workspace(const VocabularyLossArguments<float>&, int threads);
std::size_t sum_squares_workspace(const SumSquaresArguments&, int threads);

const Kernels& kernels();

}  // namespace raylite::RL_ISA

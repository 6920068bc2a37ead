// Every kernel of one instruction set, by the name of its op. Contracts: core/ops/.
#pragma once
#include "core/kernels.h"
#include "core/team.h"

namespace raylite::RL_ISA {

void embedding(const EmbeddingArguments&, const Team&);
void embedding_backward(const EmbeddingBackwardArguments&, const Team&);
void linear(const LinearArguments&, const Team&);
void linear_backward_input(const LinearBackwardInputArguments&, const Team&);
void linear_backward_weight(const LinearBackwardWeightArguments&, const Team&);
void layer_norm(const LayerNormArguments&, const Team&);
void layer_norm_backward(const LayerNormBackwardArguments&, const Team&);
void rms_norm(const RmsNormArguments&, const Team&);
void rms_norm_backward(const RmsNormBackwardArguments&, const Team&);
void activation(const ActivationArguments&, const Team&);
void activation_backward(const ActivationBackwardArguments&, const Team&);
void gated_activation(const GatedActivationArguments&, const Team&);
void gated_activation_backward(const GatedActivationBackwardArguments&, const Team&);
void rotary(const RotaryArguments&, const Team&);
void softmax(const SoftmaxArguments&, const Team&);
void softmax_backward(const SoftmaxBackwardArguments&, const Team&);
void attention(const AttentionArguments&, const Team&);
void attention_backward(const AttentionBackwardArguments&, const Team&);
void kv_append(const KvAppendArguments&, const Team&);
void attention_cached(const AttentionCachedArguments&, const Team&);
void linear_cross_entropy(const LinearCrossEntropyArguments&, const Team&);
void dropout(const DropoutArguments&, const Team&);
void add(const AddArguments&, const Team&);
void scale(const ScaleArguments&, const Team&);
void copy(const CopyArguments&, const Team&);
void fill(const FillArguments&, const Team&);
void gather_rows(const GatherRowsArguments&, const Team&);
void sum_squares(const SumSquaresArguments&, const Team&);
void clip_factor(const ClipFactorArguments&, const Team&);
void adamw(const AdamWArguments&, const Team&);
double measure_peak(double seconds);

// Bytes of workspace for a team of `threads`.
std::size_t linear_workspace(const LinearArguments&, int threads);
std::size_t linear_backward_input_workspace(const LinearBackwardInputArguments&, int threads);
std::size_t linear_backward_weight_workspace(const LinearBackwardWeightArguments&, int threads);
std::size_t layer_norm_backward_workspace(const LayerNormBackwardArguments&, int threads);
std::size_t rms_norm_backward_workspace(const RmsNormBackwardArguments&, int threads);
std::size_t attention_workspace(const AttentionArguments&, int threads);
std::size_t attention_backward_workspace(const AttentionBackwardArguments&, int threads);
std::size_t linear_cross_entropy_workspace(const LinearCrossEntropyArguments&, int threads);
std::size_t sum_squares_workspace(const SumSquaresArguments&, int threads);

const Kernels& kernels();

}  // namespace raylite::RL_ISA

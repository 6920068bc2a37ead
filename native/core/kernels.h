// The table of one instruction set's kernels: what the bind functions choose from. Plain data, filled by cpu/kernels.cpp.
#pragma once
#include "core/ops/activation.h"
#include "core/ops/adagrad.h"
#include "core/ops/adamw.h"
#include "core/ops/attention.h"
#include "core/ops/attention_cached.h"
#include "core/ops/block_quantise.h"
#include "core/ops/choose_token.h"
#include "core/ops/clip.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/head_parts.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/linear_cross_entropy.h"
#include "core/ops/linear_nf4.h"
#include "core/ops/lion.h"
#include "core/ops/log_sum_exp.h"
#include "core/ops/muon.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary.h"
#include "core/ops/sgd.h"
#include "core/ops/softmax.h"
#include "core/ops/target_loss.h"
#include "core/ops/vocabulary_loss.h"
#include "core/storage.h"
#include "core/team.h"

namespace raylite {

struct CollectiveArguments;  // core/ops/collectives.h

/// Every thread of a team calls `run`. `workspace` (may be null: none) says how many bytes the team shares meanwhile.
template <class Arguments>
struct Kernel {
  void (*run)(const Arguments&, const Team&);
  std::size_t (*workspace)(const Arguments&, int threads);
};

/// The kernels for tensors that hold T.
template <class T>
struct KernelsOf {
  Kernel<EmbeddingArguments<T>> embedding;
  Kernel<EmbeddingBackwardArguments<T>> embedding_backward;
  Kernel<LayerNormArguments<T>> layer_norm;
  Kernel<LayerNormBackwardArguments<T>> layer_norm_backward;
  Kernel<RmsNormArguments<T>> rms_norm;
  Kernel<RmsNormBackwardArguments<T>> rms_norm_backward;
  Kernel<ActivationArguments<T>> activation;
  Kernel<ActivationBackwardArguments<T>> activation_backward;
  Kernel<GatedActivationArguments<T>> gated_activation;
  Kernel<GatedActivationBackwardArguments<T>> gated_activation_backward;
  Kernel<RotaryArguments<T>> rotary;
  Kernel<SoftmaxArguments<T>> softmax;
  Kernel<SoftmaxBackwardArguments<T>> softmax_backward;
  Kernel<LinearArguments<T>> linear;
  Kernel<LinearBackwardInputArguments<T>> linear_backward_input;
  Kernel<LinearBackwardWeightArguments<T>> linear_backward_weight;
  Kernel<LinearNf4Arguments<T>> linear_nf4;
  Kernel<LinearNf4BackwardInputArguments<T>> linear_nf4_backward_input;
  Kernel<AttentionArguments<T>> attention;
  Kernel<AttentionBackwardArguments<T>> attention_backward;
  Kernel<KvAppendArguments<T>> kv_append;
  Kernel<AttentionCachedArguments<T>> attention_cached;
  Kernel<LinearCrossEntropyArguments<T>> linear_cross_entropy;
  Kernel<VocabularyLossArguments<T>> vocabulary_logits;
  Kernel<VocabularyLossArguments<T>> vocabulary_loss_grad;
  Kernel<HeadsToPartsArguments<T>> heads_to_parts;
  Kernel<PartsToHeadsArguments<T>> parts_to_heads;
  Kernel<DropoutArguments<T>> dropout;
  Kernel<TargetLossArguments<T>> target_loss;
  Kernel<TargetLossBackwardArguments<T>> target_loss_backward;
  Kernel<AddArguments<T>> add;
  Kernel<ScaleArguments<T>> scale;
  Kernel<CastArguments<T>> cast;
  Kernel<CopyArguments<T>> copy;
  Kernel<FillArguments<T>> fill;
  Kernel<GatherRowsArguments<T>> gather_rows;
  Kernel<BlockQuantiseArguments<T>> block_quantise;
  Kernel<BlockDequantiseArguments<T>> block_dequantise;
};

/// The optimisers for numbers stored in the form F.
template <class F>
struct StepKernels {
  Kernel<AdamWArguments<F>> adamw;
  Kernel<LionArguments<F>> lion;
  Kernel<AdagradArguments<F>> adagrad;
  Kernel<SgdArguments<F>> sgd;
  Kernel<MuonArguments<F>> muon;
};

struct Kernels {
  KernelsOf<float> f32;
  KernelsOf<BFloat16> bf16;
  KernelsOf<Float16> f16;
  Kernel<LogSumExpArguments> log_sum_exp;
  Kernel<ChooseTokenArguments> choose_token;
  Kernel<VocabularyLossArguments<float>> vocabulary_loss;
  Kernel<SumSquaresArguments> sum_squares;
  Kernel<ClipFactorArguments> clip_factor;
  /// Null: on the host.
  Kernel<CollectiveArguments> collective;
#define RAYLITE_STEP_TABLE(name, ...) StepKernels<__VA_ARGS__> name;
  RAYLITE_STEP_FORMS(RAYLITE_STEP_TABLE)
  /// y[begin] … y[end - 1] of an array of normal numbers times std that `key0` and `key1` name; begin is a multiple of 64.
  void (*fill_normal)(float* y, std::int64_t begin, std::int64_t end, std::uint32_t key0, std::uint32_t key1, float std);
  /// GFLOP/s of this core's multiply-adds, registers only, measured for about `seconds`.
  double (*measure_peak)(double seconds);
};

}  // namespace raylite

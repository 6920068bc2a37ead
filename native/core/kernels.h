// The table of one instruction set's kernels: what the bind functions choose from. Plain data, filled by cpu/kernels.cpp.
#pragma once
#include "core/ops/activation.h"
#include "core/ops/adamw.h"
#include "core/ops/attention.h"
#include "core/ops/attention_cached.h"
#include "core/ops/clip.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/linear_cross_entropy.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary.h"
#include "core/ops/softmax.h"
#include "core/team.h"

namespace raylite {

/// Every thread of a team calls `run`. `workspace` (may be null: none) says how many bytes the team shares meanwhile.
template <class Arguments>
struct Kernel {
  void (*run)(const Arguments&, const Team&);
  std::size_t (*workspace)(const Arguments&, int threads);
};

struct Kernels {
  Kernel<EmbeddingArguments> embedding;
  Kernel<EmbeddingBackwardArguments> embedding_backward;
  Kernel<LinearArguments> linear;
  Kernel<LinearBackwardInputArguments> linear_backward_input;
  Kernel<LinearBackwardWeightArguments> linear_backward_weight;
  Kernel<LayerNormArguments> layer_norm;
  Kernel<LayerNormBackwardArguments> layer_norm_backward;
  Kernel<RmsNormArguments> rms_norm;
  Kernel<RmsNormBackwardArguments> rms_norm_backward;
  Kernel<ActivationArguments> activation;
  Kernel<ActivationBackwardArguments> activation_backward;
  Kernel<GatedActivationArguments> gated_activation;
  Kernel<GatedActivationBackwardArguments> gated_activation_backward;
  Kernel<RotaryArguments> rotary;
  Kernel<SoftmaxArguments> softmax;
  Kernel<SoftmaxBackwardArguments> softmax_backward;
  Kernel<AttentionArguments> attention;
  Kernel<AttentionBackwardArguments> attention_backward;
  Kernel<KvAppendArguments> kv_append;
  Kernel<AttentionCachedArguments> attention_cached;
  Kernel<LinearCrossEntropyArguments> linear_cross_entropy;
  Kernel<DropoutArguments> dropout;
  Kernel<AddArguments> add;
  Kernel<ScaleArguments> scale;
  Kernel<CopyArguments> copy;
  Kernel<FillArguments> fill;
  Kernel<GatherRowsArguments> gather_rows;
  Kernel<SumSquaresArguments> sum_squares;
  Kernel<ClipFactorArguments> clip_factor;
  Kernel<AdamWArguments> adamw;
  /// GFLOP/s of this core's multiply-adds, registers only, measured for about `seconds`.
  double (*measure_peak)(double seconds);
};

}  // namespace raylite

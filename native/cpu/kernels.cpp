// The table of this instruction set's kernels.
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
constexpr KernelsOf<T> stored() {
  return {
      {embedding, nullptr},
      {embedding_backward, nullptr},
      {layer_norm, nullptr},
      {layer_norm_backward, layer_norm_backward_workspace},
      {rms_norm, nullptr},
      {rms_norm_backward, rms_norm_backward_workspace},
      {activation, nullptr},
      {activation_backward, nullptr},
      {gated_activation, nullptr},
      {gated_activation_backward, nullptr},
      {rotary, nullptr},
      {softmax, nullptr},
      {softmax_backward, nullptr},
      {linear, linear_workspace},
      {linear_backward_input, linear_backward_input_workspace},
      {linear_backward_weight, linear_backward_weight_workspace},
      {linear_nf4, linear_nf4_workspace},
      {linear_nf4_backward_input, linear_nf4_backward_input_workspace},
      {attention, attention_workspace},
      {attention_backward, attention_backward_workspace},
      {kv_append, nullptr},
      {attention_cached, attention_cached_workspace},
      {linear_cross_entropy, linear_cross_entropy_workspace},
      {vocabulary_logits, vocabulary_logits_workspace},
      {vocabulary_loss_grad, vocabulary_loss_grad_workspace},
      {heads_to_parts, nullptr},
      {parts_to_heads, nullptr},
      {dropout, nullptr},
      {target_loss, nullptr},
      {target_loss_backward, nullptr},
      {add, nullptr},
      {scale, nullptr},
      {cast, nullptr},
      {copy, nullptr},
      {fill, nullptr},
      {gather_rows, nullptr},
      {block_quantise, nullptr},
      {block_dequantise, nullptr},
  };
}

template <class F>
constexpr StepKernels<F> steps() {
  return {{adamw, nullptr}, {lion, nullptr}, {adagrad, nullptr}, {sgd, nullptr}, {muon, muon_workspace}};
}

}  // namespace

const Kernels& kernels() {
  static constexpr Kernels kTable{
      stored<float>(),
      stored<BFloat16>(),
      stored<Float16>(),
      {log_sum_exp, nullptr},
      {choose_token, choose_token_workspace},
      {vocabulary_loss, vocabulary_loss_workspace},
      {sum_squares, sum_squares_workspace},
      {clip_factor, nullptr},
      {nullptr, nullptr},
#define RL_STEP_TABLE(form, ...) steps<__VA_ARGS__>(),
      RAYLITE_STEP_FORMS(RL_STEP_TABLE)
      fill_normal,
      measure_peak,
  };
  return kTable;
}

}  // namespace raylite::RL_ISA

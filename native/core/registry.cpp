// Every op by its name in plans. A new op is a header, a bind function, a kernel, and its line here.
#include "core/registry.h"

namespace raylite {

#define RAYLITE_OPS(OP)                                                                                         \
  OP(embedding) OP(embedding_backward) OP(linear) OP(linear_backward_input) OP(linear_backward_weight)          \
  OP(layer_norm) OP(add_layer_norm) OP(layer_norm_backward) OP(rms_norm) OP(add_rms_norm) OP(rms_norm_backward) \
  OP(activation) OP(activation_backward) OP(gated_activation) OP(gated_activation_backward) OP(rotary)          \
  OP(attention) OP(attention_backward) OP(linear_cross_entropy) OP(linear_cross_entropy_grad) OP(add) OP(scale) \
  OP(cast) OP(copy) OP(disk_read) OP(disk_write) OP(fill) OP(gather_rows) OP(kv_append) OP(attention_cached) OP(log_sum_exp) OP(choose_token) OP(sum_squares) \
  OP(clip_factor) OP(softmax) OP(softmax_backward) OP(target_loss) OP(target_loss_backward) OP(dropout)         \
  OP(adamw) OP(lion) OP(adagrad) OP(sgd) OP(muon) OP(linear_nf4) OP(linear_nf4_backward_input)              \
  OP(vocabulary_logits) OP(vocabulary_loss) OP(vocabulary_loss_grad) OP(heads_to_parts) OP(parts_to_heads)      \
  OP(block_quantise) OP(block_dequantise)                                                                       \
  OP(all_reduce) OP(reduce_scatter) OP(all_gather) OP(all_to_all) OP(broadcast) OP(send) OP(recv) OP(send_recv) \
  OP(barrier)

#define RAYLITE_DECLARE(name) Bound bind_##name(Binder& binder, const Kernels& kernels);
RAYLITE_OPS(RAYLITE_DECLARE)

namespace {
struct Entry {
  const char* name;
  BindOp bind;
};
#define RAYLITE_ENTRY(name) {#name, bind_##name},
const Entry kOps[] = {RAYLITE_OPS(RAYLITE_ENTRY)};
}  // namespace

BindOp find_op(const std::string& name) {
  for (const Entry& entry : kOps) {
    if (name == entry.name) return entry.bind;
  }
  return nullptr;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kOps) names.emplace_back(entry.name);
  return names;
}

}  // namespace raylite

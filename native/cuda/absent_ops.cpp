// Ops that GPUs do not have yet: the loss over a vocabulary parted among ranks, and the blocks of ZeRO++. A program with one of them is
// refused when it is loaded.
#include "cuda/kernels.h"

namespace raylite::cuda {

#define RL_ABSENT(name, Arguments)      \
  template <class T>                    \
  Kernel<Arguments<T>> name() {         \
    return {nullptr, nullptr};          \
  }                                     \
  RL_FOR_TYPES(name, Arguments)

RL_ABSENT(vocabulary_logits, VocabularyLossArguments)
RL_ABSENT(vocabulary_loss_grad, VocabularyLossArguments)
RL_ABSENT(block_quantise, BlockQuantiseArguments)
RL_ABSENT(block_dequantise, BlockDequantiseArguments)

}  // namespace raylite::cuda

// The language-model head with its loss over a vocabulary that is parted among the ranks of a group (Megatron-LM, arXiv:1909.08053
// §3): each rank has the logits of its part alone, and ranks exchange a few numbers per row. A chunk of rows at a time: vocabulary_logits,
// the sum of `stats` over the group (an instruction of its own), then vocabulary_loss or vocabulary_loss_grad.
#pragma once
#include <cstdint>

#include "core/ops/linear_cross_entropy.h"

namespace raylite {

/// What a rank says of each row of a chunk, over its part of the logits: the largest, the sum of e^(x - largest), the label's (0 where
/// another rank has it), the sum, and the sum of e^(x - largest) (largest - x), if wanted.
constexpr std::int64_t kVocabularyStats = 5;

/// `loss` is as in linear_cross_entropy, with v, w, bias, dw and dbias those of this part: columns `start` to start + columns - 1 of `entries`,
/// then padding, which takes no part. The rows that count are the labelled ones from number chunk_index * chunk on, at most `chunk`; token_losses, dx, dw
/// and dbias of the first chunk overwrite, the others add; loss is right behind the last. stats is [ranks,5,chunk], zero but for slot `rank`
/// as vocabulary_logits makes it. (A device may take rows without a label along, as rows of zeros: all ranks of a group are on the same kind.) logits[chunk,v] hold e^(x - largest) from vocabulary_logits to vocabulary_loss_grad.
template <class T>
struct VocabularyLossArguments {
  LinearCrossEntropyArguments<T> loss;
  float* stats;
  std::int64_t chunk_index, start, columns, entries, rank, ranks;
  bool has_spread;
};

}  // namespace raylite

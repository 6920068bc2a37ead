// Attention by our own kernels.
#pragma once
#include "core/ops/attention.h"
#include "cuda/queue.h"

namespace raylite::cuda {

template <class T>
void attend(const AttentionArguments<T>& a, const Queue& queue);
/// `deltas`: room for a float of each row and head.
template <class T>
void attend_back(const AttentionBackwardArguments<T>& a, float* deltas, const Queue& queue);

}  // namespace raylite::cuda

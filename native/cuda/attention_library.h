// Attention by NVIDIA's library where it is chosen: from the arguments of the op to what the library takes.
#pragma once
#include "core/ops/attention.h"
#include "cuda/library_attention.h"
#include "cuda/queue.h"

namespace raylite::cuda {

/// What the library works in beside the tensors: the stats, and behind them a workspace of its own.
std::size_t stats_bytes(const CudaAttentionShape& shape);

/// Puts attention of `shape` on the queue. `lse`: [rows, heads], written by the forward, read by the gradient.
void put_library_attention(LibraryAttention& library, const CudaAttentionShape& shape, AttentionTensors tensors, float* lse, unsigned char* scratch,
                           const Queue& queue);

/// False: nothing is put there, our own kernels are to do it. While a queue is choosing nothing is put there either.
template <class T>
bool attend_by_library(const AttentionArguments<T>& a, const Queue& queue);
template <class T>
bool attend_back_by_library(const AttentionBackwardArguments<T>& a, const Queue& queue);

}  // namespace raylite::cuda

// Attention by the library beside our own kernels, once for a shape, on memory of the trial's own.
#pragma once
#include "cuda/library_attention.h"
#include "cuda/queue.h"

namespace raylite::cuda {

struct AttentionTrial {
  double own_ms = 0, library_ms = 0;
  double difference = 0;  // of the library's numbers from ours, as a share of ours: root mean squares, the worst tensor; NaN where one is
};

/// `scratch`: as put_library_attention() takes it. Waits for its end. Throws EngineError, as where there is no memory for it.
AttentionTrial try_attention(LibraryAttention& library, const CudaAttentionShape& shape, unsigned char* scratch, const Queue& queue);

}  // namespace raylite::cuda

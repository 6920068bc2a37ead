// NCCL, opened at run time.
#pragma once
#include <nccl.h>

#include "cuda/library_table.h"

#define RL_NCCL(X)                                                                                     \
  X(ncclGetVersion) X(ncclGetUniqueId) X(ncclCommInitRankConfig) X(ncclCommFinalize) X(ncclCommDestroy) \
  X(ncclCommAbort) X(ncclCommGetAsyncError) X(ncclGetErrorString) X(ncclGetLastError)                   \
  X(ncclAllReduce) X(ncclReduceScatter) X(ncclAllGather) X(ncclBroadcast) X(ncclSend) X(ncclRecv)       \
  X(ncclGroupStart) X(ncclGroupEnd)

namespace raylite::cuda {

RL_LIBRARY_TABLE(Nccl, RL_NCCL);

}  // namespace raylite::cuda

// Calls of CUDA that throw what went wrong, with the text of the call.
#pragma once
#include <cuda_runtime.h>

#include <string>

#include "core/error.h"

#define RL_CUDA(call)                                                                                            \
  do {                                                                                                           \
    const cudaError_t rl_error = (call);                                                                         \
    if (rl_error != cudaSuccess) {                                                                               \
      throw ::raylite::EngineError("ENGINE", std::string(#call) + ": " + cudaGetErrorString(rl_error));          \
    }                                                                                                            \
  } while (0)

// The table of the kernels.
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

template <class T>
KernelsOf<T> stored() {
#define RL_CUDA_ENTRY(name, Arguments) name<T>(),
  return {RL_CUDA_STORED(RL_CUDA_ENTRY)};
}

template <class F>
StepKernels<F> steps() {
#define RL_CUDA_STEP_ENTRY(name, Arguments) name<F>(),
  return {RL_CUDA_STEPS(RL_CUDA_STEP_ENTRY)};
}

}  // namespace

const Kernels& kernels() {
  static const Kernels kTable{
      stored<float>(),
      stored<BFloat16>(),
      stored<Float16>(),
      log_sum_exp(),
      choose_token(),
      vocabulary_loss(),
      sum_squares(),
      clip_factor(),
      collective(),
#define RL_CUDA_STEP_TABLE(form, ...) steps<__VA_ARGS__>(),
      RAYLITE_STEP_FORMS(RL_CUDA_STEP_TABLE)
      nullptr,  // first values and peaks are the host's
      nullptr,
  };
  return kTable;
}

}  // namespace raylite::cuda

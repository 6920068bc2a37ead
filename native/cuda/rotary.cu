// rotary: a block takes a row; pairs first, then, where y is another tensor, the columns that belong to none.
#include "cuda/kernels.h"
#include "cuda/storage.cuh"

namespace raylite::cuda {

namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) rotary_kernel(RotaryArguments<T> a, Fault fault) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t position = a.positions[row];
  if (position < 0 || position >= a.p) {
    if (threadIdx.x == 0) report(fault, row);
    return;
  }
  const T* x = a.x + row * a.w;
  T* y = a.y + row * a.w;
  const std::int64_t half = a.rotary_dim / 2;
  const float* cosines = a.cos + position * half;
  const float* sines = a.sin + position * half;
  const float sign = a.inverse ? -1.0f : 1.0f;
  for (std::int64_t at = threadIdx.x; at < a.heads * half; at += kThreads) {
    const std::int64_t j = at % half, head = a.offset + at / half * a.head_stride;
    const std::int64_t first = head + (a.interleaved ? 2 * j : j), second = a.interleaved ? first + 1 : first + half;
    const float p = widen(x[first]), q = widen(x[second]), c = cosines[j], s = sines[j] * sign;
    y[first] = narrow<T>(p * c - q * s);
    y[second] = narrow<T>(q * c + p * s);
  }
  if (x == y) return;
  for (std::int64_t column = threadIdx.x; column < a.w; column += kThreads) {
    const std::int64_t inside = column - a.offset;
    const std::int64_t stride = a.heads > 1 ? a.head_stride : a.w;
    const bool is_turned = inside >= 0 && inside / stride < a.heads && inside % stride < a.rotary_dim;
    if (!is_turned) y[column] = x[column];
  }
}

template <class T>
void run_rotary(const RotaryArguments<T>& a, const Team& team) {
  Queue& queue = *team.queue;
  launch(queue, grid_of(a.n), dim3(kThreads), 0, rotary_kernel<T>, a, queue.faults->expect(queue, "positions", a.positions, 0, a.p));
}

}  // namespace

template <class T>
Kernel<RotaryArguments<T>> rotary() {
  return {run_rotary<T>, nullptr};
}

RL_FOR_TYPES(rotary, RotaryArguments)

}  // namespace raylite::cuda

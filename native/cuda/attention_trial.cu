// A trial of the library's attention: the same numbers through it and through our own kernels, compared and timed on the device.
#include "cuda/attention_trial.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/attention_library.h"
#include "cuda/attention_own.h"
#include "cuda/context.h"
#include "cuda/handles.h"
#include "cuda/launch.cuh"
#include "cuda/storage.cuh"

namespace raylite::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kRuns = 3;  // that are timed, after one that is not

/// Numbers of -1 to 1 by their place.
template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* to, std::int64_t count, std::uint32_t seed) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  std::uint32_t hash = (static_cast<std::uint32_t>(i) + seed) * 0x9E3779B9u;
  hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
  hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
  to[i] = narrow<T>(static_cast<float>(hash >> 8) * (2.0f / 16777216.0f) - 1.0f);
}

/// Queries of the first row of each segment that lie so far off their key that the row's sum is tiny: the library has been wrong there.
template <class T>
__global__ void __launch_bounds__(kThreads) turn_kernel(T* q, const T* k, CudaAttentionShape s) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= s.segments * s.heads * s.head_dim) return;
  const std::int64_t column = i % s.head_dim, head = i / s.head_dim % s.heads, row = i / (s.head_dim * s.heads) * s.rows;
  const std::int64_t kv_head = head / (s.heads / s.kv_heads);
  const float key = widen(k[row * s.k.width + s.k.offset + kv_head * s.k.head_stride + column]);
  q[row * s.q.width + s.q.offset + head * s.q.head_stride + column] = narrow<T>(-40.0f * key);
}

__global__ void __launch_bounds__(kThreads) segments_kernel(std::int32_t* starts, std::int32_t* ends, std::int64_t n, std::int64_t rows) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= n) return;
  starts[i] = static_cast<std::int32_t>(i / rows * rows);
  ends[i] = static_cast<std::int32_t>(i / rows * rows + rows);
}

/// sums[0] += the squares of a - b, sums[1] += those of b.
template <class T>
__global__ void __launch_bounds__(kThreads) compare_kernel(const T* a, const T* b, std::int64_t count, double* sums) {
  double difference = 0, size = 0;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const double x = static_cast<double>(widen(a[i])), y = static_cast<double>(widen(b[i]));
    difference += (x - y) * (x - y);
    size += y * y;
  }
  atomicAdd(sums, difference);
  atomicAdd(sums + 1, size);
}

dim3 grid_over(std::int64_t count) { return grid_of(parts(count, kThreads)); }

/// q, k, v or their gradients: one tensor where they lie side by side, else three.
template <class T>
class Sides {
 public:
  Sides(const CudaAttentionShape& s, cudaStream_t stream) : rows_(s.segments * s.rows) {
    const bool is_fused = s.q.width == s.k.width && s.k.width == s.v.width && s.q.offset != s.k.offset && s.k.offset != s.v.offset && s.q.offset != s.v.offset;
    for (const HeadLayout& layout : {s.q, s.k, s.v}) {
      if (is_fused && !owned_.empty()) break;
      counts_.push_back(rows_ * layout.width);
      owned_.push_back(std::make_unique<DeviceBytes>(static_cast<std::size_t>(counts_.back()) * sizeof(T)));
      RL_CUDA(cudaMemsetAsync(owned_.back()->template as<void>(), 0, static_cast<std::size_t>(counts_.back()) * sizeof(T), stream));
    }
  }
  T* operator[](std::size_t i) const { return owned_[owned_.size() == 1 ? 0 : i]->template as<T>(); }
  std::size_t tensors() const { return owned_.size(); }
  std::int64_t count(std::size_t i) const { return counts_[i]; }

 private:
  std::int64_t rows_;
  std::vector<std::int64_t> counts_;
  std::vector<std::unique_ptr<DeviceBytes>> owned_;
};

template <class T>
class Trial {
 public:
  Trial(LibraryAttention& library, const CudaAttentionShape& shape, unsigned char* scratch, const Queue& queue)
      : library_(library),
        s_(shape),
        scratch_(scratch),
        n_(shape.segments * shape.rows),
        worst_(sizeof(unsigned long long)),
        faults_(worst_.as<unsigned long long>()),
        queue_{queue.stream, queue.context, &faults_, nullptr, nullptr, 0},
        starts_(bytes<std::int32_t>(n_)),
        ends_(bytes<std::int32_t>(n_)),
        sums_(2 * sizeof(double)),
        inputs_(shape, queue.stream),
        o_(bytes<T>(n_ * row())),
        lse_(bytes<float>(n_ * shape.heads)) {
    RL_CUDA(cudaMemsetAsync(worst_.as<void>(), 0xff, sizeof(unsigned long long), queue.stream));
    launch(queue_, grid_over(n_), dim3(kThreads), 0, segments_kernel, starts_.as<std::int32_t>(), ends_.as<std::int32_t>(), n_, s_.rows);
    for (std::size_t i = 0; i < inputs_.tensors(); i++) fill(inputs_[i], inputs_.count(i), static_cast<std::uint32_t>(1000003 * i));
    launch(queue_, grid_over(s_.segments * s_.heads * s_.head_dim), dim3(kThreads), 0, turn_kernel<T>, inputs_[0], static_cast<const T*>(inputs_[1]), s_);
  }

  AttentionTrial forward() {
    const DeviceBytes o(bytes<T>(n_ * row())), lse(bytes<float>(n_ * s_.heads));
    AttentionTensors tensors = operands();
    tensors.o = o.as<void>();
    AttentionTrial trial;
    trial.own_ms = time([&] { attend(arguments(), queue_); });
    trial.library_ms = time([&] { put_library_attention(library_, s_, tensors, lse.as<float>(), scratch_, queue_); });
    trial.difference = worse(difference(o.as<T>(), o_.as<T>(), n_ * row()), difference(lse.as<float>(), lse_.as<float>(), n_ * s_.heads));
    return trial;
  }

  AttentionTrial backward() {
    const DeviceBytes grad_o(bytes<T>(n_ * row())), deltas(bytes<float>(n_ * s_.heads));
    const Sides<T> own(s_, queue_.stream), found(s_, queue_.stream);
    fill(grad_o.as<T>(), n_ * row(), 7919);
    attend(arguments(), queue_);
    const AttentionArguments<T> a = arguments();
    const AttentionBackwardArguments<T> b{grad_o.as<T>(), a.o, a.lse, a.q, a.k, a.v, a.mask, a.dropout, own[0], own[1], own[2], a.n, a.heads, a.kv_heads,
                                          a.head_dim, a.q_layout, a.k_layout, a.v_layout, a.scale};
    AttentionTensors tensors = operands();
    tensors.o = o_.as<void>(), tensors.grad_o = grad_o.as<void>();
    tensors.dq = found[0] + s_.q.offset, tensors.dk = found[1] + s_.k.offset, tensors.dv = found[2] + s_.v.offset;
    AttentionTrial trial;
    trial.own_ms = time([&] { attend_back(b, deltas.as<float>(), queue_); });
    trial.library_ms = time([&] { put_library_attention(library_, s_, tensors, lse_.as<float>(), scratch_, queue_); });
    for (std::size_t i = 0; i < own.tensors(); i++) trial.difference = worse(trial.difference, difference(found[i], own[i], own.count(i)));
    return trial;
  }

 private:
  template <class N>
  static std::size_t bytes(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(N);
  }
  std::int64_t row() const { return s_.heads * s_.head_dim; }
  static double worse(double a, double b) { return a <= b || std::isnan(b) ? b : a; }  // NaN stays

  void fill(T* to, std::int64_t count, std::uint32_t seed) { launch(queue_, grid_over(count), dim3(kThreads), 0, fill_kernel<T>, to, count, seed); }

  AttentionArguments<T> arguments() const {
    return {inputs_[0], inputs_[1], inputs_[2], {starts_.as<std::int32_t>(), ends_.as<std::int32_t>(), s_.causal, s_.window}, {nullptr, 0, 0},
            o_.as<T>(), lse_.as<float>(), n_, s_.heads, s_.kv_heads, s_.head_dim, s_.q, s_.k, s_.v, s_.scale};
  }
  AttentionTensors operands() const { return {inputs_[0] + s_.q.offset, inputs_[1] + s_.k.offset, inputs_[2] + s_.v.offset, nullptr, nullptr}; }

  /// The least milliseconds of some runs.
  template <class Work>
  double time(Work work) {
    double least = INFINITY;
    for (int run = 0; run <= kRuns; run++) {
      const Event begin(true), end(true);
      RL_CUDA(cudaEventRecord(begin.get(), queue_.stream));
      work();
      RL_CUDA(cudaEventRecord(end.get(), queue_.stream));
      RL_CUDA(cudaStreamSynchronize(queue_.stream));
      float ms = 0;
      RL_CUDA(cudaEventElapsedTime(&ms, begin.get(), end.get()));
      if (run > 0) least = std::min(least, static_cast<double>(ms));
    }
    return least;
  }

  template <class N>
  double difference(const N* found, const N* expected, std::int64_t count) {
    RL_CUDA(cudaMemsetAsync(sums_.as<void>(), 0, 2 * sizeof(double), queue_.stream));
    launch(queue_, grid_of(std::min<std::int64_t>(parts(count, kThreads), 1024)), dim3(kThreads), 0, compare_kernel<N>, found, expected, count, sums_.as<double>());
    RL_CUDA(cudaStreamSynchronize(queue_.stream));
    double sums[2];
    queue_.context->copy(sums, sums_.as<void>(), sizeof(sums));
    return std::sqrt(sums[0] / std::max(sums[1], 1e-30));
  }

  LibraryAttention& library_;
  const CudaAttentionShape s_;
  unsigned char* const scratch_;
  const std::int64_t n_;
  const DeviceBytes worst_;
  Faults faults_;
  const Queue queue_;
  const DeviceBytes starts_, ends_, sums_;
  const Sides<T> inputs_;
  const DeviceBytes o_, lse_;
};

template <class T>
AttentionTrial run_trial(LibraryAttention& library, const CudaAttentionShape& shape, unsigned char* scratch, const Queue& queue) {
  Trial<T> trial(library, shape, scratch, queue);
  return shape.is_backward ? trial.backward() : trial.forward();
}

}  // namespace

AttentionTrial try_attention(LibraryAttention& library, const CudaAttentionShape& shape, unsigned char* scratch, const Queue& queue) {
  return shape.type == DType::kBF16 ? run_trial<BFloat16>(library, shape, scratch, queue) : run_trial<Float16>(library, shape, scratch, queue);
}

}  // namespace raylite::cuda

// Attention as cuDNN would make it, by plain loops in double, in place of native/cuda/cudnn_attention.cpp. Strict where the library would be.
// RAYLITE_EMULATED_CUDNN says how it is met: "fast" (the default: it takes no time), "slow" (17 minutes), "wrong" (its numbers), "refuses".
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

#include "cuda/library_attention.h"
#include "cuda/storage.cuh"
#include "emulate/device.h"

namespace raylite::cuda {

namespace {

constexpr std::size_t kWorkspaceBytes = 4096;

std::string manner() {
  const char* said = std::getenv("RAYLITE_EMULATED_CUDNN");
  return said == nullptr ? "fast" : said;
}

/// Rows of one head of one segment.
template <class T>
struct Rows {
  T* at;
  std::int64_t width;
  T* operator[](std::int64_t i) const { return at + i * width; }
};

template <class T>
class Attention {
 public:
  Attention(const CudaAttentionShape& shape, const AttentionTensors& tensors, double factor)
      : s_(shape), t_(tensors), factor_(factor), weights_(static_cast<std::size_t>(shape.rows * shape.rows)), slopes_(weights_.size()) {}

  void run() {
    for (std::int64_t segment = 0; segment < s_.segments; segment++) {
      for (std::int64_t head = 0; head < s_.heads; head++) {
        weigh(segment, head);
        if (!s_.is_backward) add_values(segment, head);
        else find_slopes(segment, head);
      }
    }
  }

 private:
  template <class P>
  Rows<T> rows(P* first, const HeadLayout& layout, std::int64_t segment, std::int64_t head) const {
    return {static_cast<T*>(const_cast<void*>(static_cast<const void*>(first))) + segment * s_.rows * layout.width + head * layout.head_stride, layout.width};
  }
  HeadLayout out() const { return {s_.heads * s_.head_dim, 0, s_.head_dim}; }
  std::int64_t kv_head(std::int64_t head) const { return head / (s_.heads / s_.kv_heads); }
  double dot(const T* a, const T* b) const {
    double sum = 0;
    for (std::int64_t c = 0; c < s_.head_dim; c++) sum += static_cast<double>(widen(a[c])) * static_cast<double>(widen(b[c]));
    return sum;
  }
  double& weight(std::int64_t i, std::int64_t j) { return weights_[static_cast<std::size_t>(i * s_.rows + j)]; }
  double& slope(std::int64_t i, std::int64_t j) { return slopes_[static_cast<std::size_t>(i * s_.rows + j)]; }
  float& stat(std::int64_t segment, std::int64_t head, std::int64_t row) { return t_.stats[(segment * s_.heads + head) * s_.rows + row]; }
  bool sees(std::int64_t i, std::int64_t j) const { return (!s_.causal || j <= i) && (s_.window == 0 || j > i - s_.window); }

  void weigh(std::int64_t segment, std::int64_t head) {
    const Rows<T> q = rows(t_.q, s_.q, segment, head), k = rows(t_.k, s_.k, segment, kv_head(head));
    for (std::int64_t i = 0; i < s_.rows; i++) {
      double top = -INFINITY, total = 0;
      for (std::int64_t j = 0; j < s_.rows; j++) {
        weight(i, j) = sees(i, j) ? dot(q[i], k[j]) * static_cast<double>(s_.scale) : -INFINITY;
        top = std::max(top, weight(i, j));
      }
      for (std::int64_t j = 0; j < s_.rows; j++) total += std::exp(weight(i, j) - top);
      const double sum = s_.is_backward ? static_cast<double>(stat(segment, head, i)) : top + std::log(total);
      if (!s_.is_backward) stat(segment, head, i) = static_cast<float>(sum);
      for (std::int64_t j = 0; j < s_.rows; j++) weight(i, j) = std::exp(weight(i, j) - sum);
    }
  }

  void add_values(std::int64_t segment, std::int64_t head) {
    const Rows<T> v = rows(t_.v, s_.v, segment, kv_head(head)), o = rows(t_.o, out(), segment, head);
    for (std::int64_t i = 0; i < s_.rows; i++) {
      for (std::int64_t c = 0; c < s_.head_dim; c++) {
        double sum = 0;
        for (std::int64_t j = 0; j < s_.rows; j++) sum += weight(i, j) * static_cast<double>(widen(v[j][c]));
        o[i][c] = narrow<T>(static_cast<float>(factor_ * sum));
      }
    }
  }

  void find_slopes(std::int64_t segment, std::int64_t head) {
    const Rows<T> q = rows(t_.q, s_.q, segment, head), k = rows(t_.k, s_.k, segment, kv_head(head)), v = rows(t_.v, s_.v, segment, kv_head(head));
    const Rows<T> o = rows(t_.o, out(), segment, head), grad_o = rows(t_.grad_o, out(), segment, head), dq = rows(t_.dq, s_.q, segment, head);
    for (std::int64_t i = 0; i < s_.rows; i++) {
      const double delta = dot(grad_o[i], o[i]);
      for (std::int64_t j = 0; j < s_.rows; j++) slope(i, j) = weight(i, j) * (dot(grad_o[i], v[j]) - delta) * static_cast<double>(s_.scale);
    }
    const bool is_first = head % (s_.heads / s_.kv_heads) == 0, is_last = (head + 1) % (s_.heads / s_.kv_heads) == 0;
    if (is_first) key_sums_.assign(static_cast<std::size_t>(2 * s_.rows * s_.head_dim), 0);
    for (std::int64_t i = 0; i < s_.rows; i++) {
      for (std::int64_t c = 0; c < s_.head_dim; c++) {
        double of_query = 0;
        double& of_key = key_sums_[static_cast<std::size_t>(2 * (i * s_.head_dim + c))];
        double& of_value = key_sums_[static_cast<std::size_t>(2 * (i * s_.head_dim + c) + 1)];
        for (std::int64_t j = 0; j < s_.rows; j++) {
          of_query += slope(i, j) * static_cast<double>(widen(k[j][c]));
          of_key += slope(j, i) * static_cast<double>(widen(q[j][c]));
          of_value += weight(j, i) * static_cast<double>(widen(grad_o[j][c]));
        }
        dq[i][c] = narrow<T>(static_cast<float>(factor_ * of_query));
        if (!is_last) continue;
        rows(t_.dk, s_.k, segment, kv_head(head))[i][c] = narrow<T>(static_cast<float>(factor_ * of_key));
        rows(t_.dv, s_.v, segment, kv_head(head))[i][c] = narrow<T>(static_cast<float>(factor_ * of_value));
      }
    }
  }

  const CudaAttentionShape s_;
  const AttentionTensors t_;
  const double factor_;
  std::vector<double> weights_, slopes_, key_sums_;
};

class EmulatedAttention final : public LibraryAttention {
 public:
  std::string name() const override { return "emulated cuDNN"; }

  std::size_t prepare(const CudaAttentionShape& s) override {
    if (manner() == "refuses") throw EngineError("ENGINE", "cuDNN: no plan for this");
    if (s.rows % kSegmentRows != 0 || s.head_dim % 8 != 0 || s.head_dim > 256 || s.heads % s.kv_heads != 0) emulate::stop("cuDNN has no such attention");
    prepared_.insert(s);
    return kWorkspaceBytes;
  }

  void run(const CudaAttentionShape& s, const AttentionTensors& t, void* workspace, cudaStream_t stream) override {
    if (prepared_.count(s) == 0) emulate::stop("attention of a shape that cuDNN was not prepared for");
    for (const void* p : {t.q, t.k, t.v, static_cast<const void*>(t.o), t.grad_o, static_cast<const void*>(t.dq), static_cast<const void*>(t.dk), static_cast<const void*>(t.dv)}) {
      if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) emulate::stop("cuDNN takes no tensor that is not on 16 bytes");
    }
    const std::string how = manner();
    emulate::enqueue(stream, [=] {
      const auto begin = std::chrono::steady_clock::now();
      std::memset(workspace, 0xa5, kWorkspaceBytes);
      const double factor = how == "wrong" ? 1.5 : 1;
      if (s.type == DType::kBF16) Attention<BFloat16>(s, t, factor).run();
      else Attention<Float16>(s, t, factor).run();
      const auto taken = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin);
      emulate::skew_us += how == "slow" ? 1'000'000'000 : -taken.count();
    });
  }

 private:
  std::set<CudaAttentionShape> prepared_;
};

}  // namespace

std::unique_ptr<LibraryAttention> open_library_attention(const CudaLibraries& libraries) {
  if (libraries.cudnn == nullptr) throw EngineError("CUDA", "cuDNN (libcudnn.so.9) was not found");
  return std::make_unique<EmulatedAttention>();
}

std::size_t plan_library_attention(const CudaLibraries&, const char*, const CudaAttentionShape&) {
  throw EngineError("CUDA", "the emulated cuDNN plans for its own devices alone");
}

}  // namespace raylite::cuda

// Matrix products by cuBLASLt: the same description as the CPU's, strides in elements.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "core/ops/activation.h"
#include "core/storage.h"
#include "cuda/queue.h"

namespace raylite::cuda {

/// c[m,n] = act(a[m,k] b[k,n] (+ bias[n]) (+ beta c)), all row by row but for the strides of a and b, of which one is 1.
struct Product {
  DType type = DType::kF32;    // of a, b and bias
  DType result = DType::kF32;  // of c
  std::int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  std::int64_t a_row = 0, a_col = 0;
  const void* b = nullptr;
  std::int64_t b_row = 0, b_col = 0;
  void* c = nullptr;
  std::int64_t ldc = 0;
  const void* bias = nullptr;
  const float* beta = nullptr;  // a float of the device, 0 or 1; null: 0
  Activation activation = Activation::kNone;  // of the sums before they are rounded
};

/// What every product may use beside its operands.
constexpr std::size_t kProductWorkspaceBytes = 32u << 20;

/// A float of the device that is 1: as beta, to add to c.
const float* one_of(const Queue& queue);

/// Puts the product on the queue. `workspace` holds kProductWorkspaceBytes. False, and nothing is put, where cuBLASLt takes no such activation.
bool multiply(const Queue& queue, const Product& product, void* workspace);

/// cuBLASLt, opened; and the algorithms that it has chosen, by shape.
class Products {
 public:
  /// Throws EngineError("CUDA") where the library is missing.
  explicit Products(const char* path);
  ~Products();
  bool put(const Queue& queue, const Product& product, void* workspace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace raylite::cuda

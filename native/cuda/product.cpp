// Descriptors, layouts and heuristics of cuBLASLt. It thinks in columns: the product is given to it transposed.
#include "cuda/product.h"

#include <cublasLt.h>

#include <algorithm>
#include <string>

#include "cuda/check.h"
#include "cuda/context.h"
#include "cuda/library_table.h"

namespace raylite::cuda {

namespace {

#define RL_CUBLAS_LT(X)                                                                                     \
  X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmul) X(cublasLtMatmulDescCreate)                        \
  X(cublasLtMatmulDescDestroy) X(cublasLtMatmulDescSetAttribute) X(cublasLtMatrixLayoutCreate)              \
  X(cublasLtMatrixLayoutDestroy) X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy)       \
  X(cublasLtMatmulPreferenceSetAttribute) X(cublasLtMatmulAlgoGetHeuristic) X(cublasLtGetStatusString)
RL_LIBRARY_TABLE(CublasLt, RL_CUBLAS_LT);

#define RL_LT(lt, call)                                                                                             \
  do {                                                                                                              \
    const cublasStatus_t rl_status = (lt).call;                                                                     \
    if (rl_status != CUBLAS_STATUS_SUCCESS) {                                                                       \
      throw EngineError("ENGINE", std::string(#call) + ": " + (lt).cublasLtGetStatusString(rl_status));             \
    }                                                                                                               \
  } while (0)

cudaDataType_t type_of(DType type) {
  switch (type) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

/// An operand as columns: op(columns of `ld`) is what the product wants.
struct Side {
  cublasOperation_t op;
  std::int64_t rows, columns, ld;
};

/// Of an [r,c] matrix with these strides, whose transpose the product takes. The stride of an axis of one element says nothing.
Side transposed_side(std::int64_t r, std::int64_t c, std::int64_t row, std::int64_t col) {
  if (col == 1) return {CUBLAS_OP_N, c, r, std::max(row, c)};
  return {CUBLAS_OP_T, r, c, std::max(col, r)};
}

/// How far a pointer is aligned, up to what algorithms ask for.
std::uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  std::uint32_t bytes = 256;
  while (bytes > 1 && address % bytes != 0) bytes /= 2;
  return bytes;
}

/// What an algorithm is chosen by.
using Key = std::tuple<DType, DType, int, int, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool, int,
                       std::uint32_t, std::uint32_t, std::uint32_t>;

/// One shape of product, described once.
struct Described {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool is_possible = false;
};

/// What cuBLASLt does to the sums; false: it has no such activation. Its GELU is that of tanh.
bool epilogue_of(const Product& p, cublasLtEpilogue_t& epilogue) {
  const bool has_bias = p.bias != nullptr;
  switch (p.activation) {
    case Activation::kNone:
      return epilogue = has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT, true;
    case Activation::kGeluTanh:
      return epilogue = has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU, true;
    case Activation::kRelu:
      return epilogue = has_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU, true;
    default:
      return false;
  }
}

}  // namespace

struct Products::State {
  CublasLt lt;
  cublasLtHandle_t handle = nullptr;
  std::map<Key, Described> known;

  explicit State(const char* path) : lt("cuBLASLt", path) { RL_LT(lt, cublasLtCreate(&handle)); }
  ~State() {
    for (auto& [key, one] : known) destroy(one);
    if (handle != nullptr) lt.cublasLtDestroy(handle);
  }

  void destroy(Described& one) {
    for (cublasLtMatrixLayout_t layout : {one.a, one.b, one.c}) {
      if (layout != nullptr) lt.cublasLtMatrixLayoutDestroy(layout);
    }
    if (one.operation != nullptr) lt.cublasLtMatmulDescDestroy(one.operation);
  }

  template <class T>
  void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    RL_LT(lt, cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)));
  }

  void describe(Described& one, const Product& p, cublasLtEpilogue_t epilogue, const Side& left, const Side& right) {
    RL_LT(lt, cublasLtMatmulDescCreate(&one.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(one.operation, CUBLASLT_MATMUL_DESC_TRANSA, left.op);
    set(one.operation, CUBLASLT_MATMUL_DESC_TRANSB, right.op);
    set(one.operation, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE);
    set(one.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    if (p.bias != nullptr) {
      set(one.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(p.type));
      set(one.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    }
    const auto layout = [&](cublasLtMatrixLayout_t& to, DType type, const Side& side) {
      RL_LT(lt, cublasLtMatrixLayoutCreate(&to, type_of(type), static_cast<std::uint64_t>(side.rows), static_cast<std::uint64_t>(side.columns), side.ld));
    };
    layout(one.a, p.type, left);
    layout(one.b, p.type, right);
    layout(one.c, p.result, {CUBLAS_OP_N, p.n, p.m, p.ldc});
    choose(one, p);
  }

  void choose(Described& one, const Product& p) {
    cublasLtMatmulPreference_t preference = nullptr;
    RL_LT(lt, cublasLtMatmulPreferenceCreate(&preference));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      RL_LT(lt, cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kProductWorkspaceBytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.c));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.c));
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = lt.cublasLtMatmulAlgoGetHeuristic(handle, one.operation, one.a, one.b, one.c, one.c, preference, 1, &best, &found);
    lt.cublasLtMatmulPreferenceDestroy(preference);
    one.is_possible = status == CUBLAS_STATUS_SUCCESS && found > 0;
    if (!one.is_possible && p.activation == Activation::kNone) {
      throw EngineError("ENGINE", "cuBLASLt has no algorithm for a product of " + std::to_string(p.m) + " x " + std::to_string(p.k) + " by " +
                                      std::to_string(p.k) + " x " + std::to_string(p.n) + ": " + lt.cublasLtGetStatusString(status));
    }
    one.algorithm = best.algo;
  }
};

Products::Products(const char* path) : state_(std::make_unique<State>(path)) {}
Products::~Products() = default;

bool Products::put(const Queue& queue, const Product& p, void* workspace) {
  cublasLtEpilogue_t epilogue;
  if (!epilogue_of(p, epilogue)) return false;
  State& state = *state_;
  CublasLt& lt = state.lt;
  // c^T[n,m] = b^T[n,k] a^T[k,m]
  const Side left = transposed_side(p.k, p.n, p.b_row, p.b_col);
  const Side right = transposed_side(p.m, p.k, p.a_row, p.a_col);
  const Key key{p.type, p.result, left.op, right.op, p.m, p.n, p.k, left.ld, right.ld, p.ldc, p.bias != nullptr, static_cast<int>(p.activation),
                alignment_of(p.a), alignment_of(p.b), alignment_of(p.c)};
  auto found = state.known.find(key);
  if (found == state.known.end()) {
    Described one;
    try {
      state.describe(one, p, epilogue, left, right);
    } catch (...) {
      state.destroy(one);
      throw;
    }
    found = state.known.emplace(key, one).first;
  }
  Described& one = found->second;
  if (!one.is_possible) return false;
  if (p.bias != nullptr) state.set(one.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  const float* alpha = queue.context->one();
  const float* beta = p.beta == nullptr ? queue.context->zero() : p.beta;
  RL_LT(lt, cublasLtMatmul(state.handle, one.operation, alpha, p.b, one.a, p.a, one.b, beta, p.c, one.c, p.c, one.c, &one.algorithm, workspace,
                           kProductWorkspaceBytes, queue.stream));
  return true;
}

const float* one_of(const Queue& queue) { return queue.context->one(); }

bool multiply(const Queue& queue, const Product& product, void* workspace) {
  return queue.context->products().put(queue, product, workspace);
}

}  // namespace raylite::cuda

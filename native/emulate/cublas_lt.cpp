// Products as cuBLASLt would make them, by plain loops over sums in double: the order of its sums is its own, and one long sum in f32 would
// be worse than any. Strict where the library would be: shapes must agree, leading dimensions must reach, alpha and beta are read on the device.
#include <cmath>
#include <vector>

#include "cublasLt.h"
#include "cuda/storage.cuh"

#define RL_EXPORT extern "C" __attribute__((visibility("default")))

struct cublasLtMatmulDescOpaque_t {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtPointerMode_t pointers = CUBLASLT_POINTER_MODE_HOST;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  cudaDataType_t bias_type = CUDA_R_32F;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  std::uint64_t rows, columns;
  std::int64_t ld;
};
struct cublasLtMatmulPreferenceOpaque_t {};

namespace {

using raylite::BFloat16;
using raylite::Float16;
using raylite::cuda::narrow;
using raylite::cuda::widen;

float get(const void* at, cudaDataType_t type, std::int64_t i) {
  if (type == CUDA_R_16BF) return widen(static_cast<const BFloat16*>(at)[i]);
  if (type == CUDA_R_16F) return widen(static_cast<const Float16*>(at)[i]);
  return static_cast<const float*>(at)[i];
}
void set(void* at, cudaDataType_t type, std::int64_t i, float x) {
  if (type == CUDA_R_16BF) static_cast<BFloat16*>(at)[i] = narrow<BFloat16>(x);
  else if (type == CUDA_R_16F) static_cast<Float16*>(at)[i] = narrow<Float16>(x);
  else static_cast<float*>(at)[i] = x;
}

/// op(x) as rows of floats.
std::vector<float> rows_of(const void* x, const cublasLtMatrixLayoutOpaque_t& layout, bool is_transposed, std::int64_t rows, std::int64_t columns) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t j = 0; j < columns; j++) {
      values[static_cast<std::size_t>(i * columns + j)] = get(x, layout.type, is_transposed ? i * layout.ld + j : i + j * layout.ld);
    }
  }
  return values;
}

}  // namespace

RL_EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return *handle = nullptr, CUBLAS_STATUS_SUCCESS; }
RL_EXPORT cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
RL_EXPORT const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_SUPPORTED";
}
RL_EXPORT cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t, cudaDataType_t) {
  return *desc = new cublasLtMatmulDescOpaque_t, CUBLAS_STATUS_SUCCESS;
}
RL_EXPORT cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return delete desc, CUBLAS_STATUS_SUCCESS; }
RL_EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void* value, std::size_t bytes) {
  const auto take = [&](auto& to) {
    if (bytes != sizeof(to)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(desc->a);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(desc->b);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return take(desc->pointers);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(desc->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(desc->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(desc->bias_type);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
RL_EXPORT cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, std::uint64_t rows, std::uint64_t columns, std::int64_t ld) {
  if (rows == 0 || columns == 0 || ld < static_cast<std::int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, columns, ld}, CUBLAS_STATUS_SUCCESS;
}
RL_EXPORT cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return delete layout, CUBLAS_STATUS_SUCCESS; }
RL_EXPORT cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return *preference = new cublasLtMatmulPreferenceOpaque_t, CUBLAS_STATUS_SUCCESS;
}
RL_EXPORT cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return delete preference, CUBLAS_STATUS_SUCCESS; }
RL_EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t attribute, const void*, std::size_t bytes) {
  const std::size_t wanted = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4;
  return bytes == wanted ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
/// GELU of 16-bit numbers alone, so that callers meet a product that is not there.
RL_EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t,
                                                        cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,
                                                        cublasLtMatmulHeuristicResult_t* results, int* found) {
  results[0] = {};
  if ((desc->epilogue & CUBLASLT_EPILOGUE_GELU) != 0 && a->type == CUDA_R_32F) return *found = 0, CUBLAS_STATUS_NOT_SUPPORTED;
  return *found = 1, CUBLAS_STATUS_SUCCESS;
}

RL_EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                                        const void* b, cublasLtMatrixLayout_t b_layout, const void* beta, const void* c, cublasLtMatrixLayout_t,
                                        void* d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void* workspace, std::size_t, cudaStream_t stream) {
  const cublasLtMatmulDescOpaque_t how = *desc;
  const cublasLtMatrixLayoutOpaque_t al = *a_layout, bl = *b_layout, dl = *d_layout;
  const bool at = how.a == CUBLAS_OP_T, bt = how.b == CUBLAS_OP_T;
  const auto m = static_cast<std::int64_t>(dl.rows), n = static_cast<std::int64_t>(dl.columns);
  const auto k = static_cast<std::int64_t>(at ? al.rows : al.columns);
  const bool fits = static_cast<std::int64_t>(at ? al.columns : al.rows) == m && static_cast<std::int64_t>(bt ? bl.rows : bl.columns) == n &&
                    static_cast<std::int64_t>(bt ? bl.columns : bl.rows) == k && al.type == bl.type && c == d && workspace != nullptr &&
                    how.pointers == CUBLASLT_POINTER_MODE_DEVICE;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  raylite::emulate::enqueue(stream, [=] {
    const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    const std::vector<float> left = rows_of(a, al, at, m, k);
    const std::vector<float> right = rows_of(b, bl, bt, k, n);
    std::vector<double> row(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < m; i++) {
      std::fill(row.begin(), row.end(), 0.0);
      for (std::int64_t p = 0; p < k; p++) {
        const float x = left[static_cast<std::size_t>(i * k + p)];
        const float* from = right.data() + p * n;
        for (std::int64_t j = 0; j < n; j++) row[static_cast<std::size_t>(j)] += static_cast<double>(x) * static_cast<double>(from[j]);
      }
      for (std::int64_t j = 0; j < n; j++) {
        float value = scale * static_cast<float>(row[static_cast<std::size_t>(j)]);
        if (keep != 0) value += keep * get(c, dl.type, i + j * dl.ld);
        if ((how.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) value += get(how.bias, how.bias_type, i);
        if ((how.epilogue & CUBLASLT_EPILOGUE_RELU) != 0) value = value < 0 ? 0.0f : value;
        if ((how.epilogue & CUBLASLT_EPILOGUE_GELU) != 0) value = 0.5f * value * (1 + std::tanh(0.7978845608f * (value + 0.044715f * value * value * value)));
        set(d, dl.type, i + j * dl.ld, value);
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

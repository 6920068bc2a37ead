// Sums over rows of what each row gives for every column: rows are cut into parts, a block adds up a part, and the parts are
// added in their order. Equal shapes give equal bits, whatever the device.
#pragma once
#include "cuda/storage.cuh"

namespace raylite::cuda {

constexpr std::int64_t kRowPartsMax = 256;

/// How many parts `rows` rows are cut into: at least 16 rows each.
inline std::int64_t row_parts(std::int64_t rows) {
  const std::int64_t wanted = parts(rows, 16);
  return wanted < kRowPartsMax ? wanted : kRowPartsMax;
}
inline std::size_t row_parts_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(row_parts(rows) * columns) * sizeof(float);
}

/// The rows of a part: [begin, end).
struct RowRange {
  std::int64_t begin, end;
};
__device__ inline RowRange rows_of_part(std::int64_t rows, std::int64_t part, std::int64_t count) {
  return {rows * part / count, rows * (part + 1) / count};
}

static __global__ void __launch_bounds__(256) add_parts_kernel(const float* from, std::int64_t count, std::int64_t stride, std::int64_t columns, float* to,
                                                               const float* beta, bool accumulate) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (j >= columns) return;
  float sum = accumulate || *beta != 0.0f ? to[j] : 0.0f;
  for (std::int64_t part = 0; part < count; part++) sum += from[part * stride + j];
  to[j] = sum;
}

/// to[columns] (+)= the sum over parts of from[part][stride]. Overwrites when beta[0] is 0 and nothing says to accumulate.
inline void add_parts(const Queue& queue, const float* from, std::int64_t rows, std::int64_t stride, std::int64_t columns, float* to, const float* beta,
                      bool accumulate) {
  launch(queue, grid_of(parts(columns, 256)), dim3(256), 0, add_parts_kernel, from, row_parts(rows), stride, columns, to, beta, accumulate);
}

/// A sum that carries along what rounding took from it (Kahan): biases of keys have gradients near zero, out of terms that
/// cancel. A block adds up 32 columns of a part of the rows: eight threads a column, whose sums are added in their order.
template <class T>
__global__ void __launch_bounds__(256) column_sums_kernel(const T* x, std::int64_t n, std::int64_t columns, std::int64_t stride, float* to) {
  __shared__ float sums[8][33];
  const int lane = static_cast<int>(threadIdx.x % 32), line = static_cast<int>(threadIdx.x / 32);
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * 32 + lane;
  const RowRange rows = rows_of_part(n, blockIdx.y, gridDim.y);
  float sum = 0, lost = 0;
  for (std::int64_t row = rows.begin + line; j < columns && row < rows.end; row += 8) {
    const float corrected = widen(x[row * stride + j]) - lost;
    const float next = sum + corrected;
    lost = (next - sum) - corrected;
    sum = next;
  }
  sums[line][lane] = sum;
  __syncthreads();
  if (line != 0 || j >= columns) return;
  for (int i = 1; i < 8; i++) sum += sums[i][lane];
  to[static_cast<std::int64_t>(blockIdx.y) * columns + j] = sum;
}

/// to[columns] (+)= the columns of x[n][stride] summed; `partials` holds row_parts_bytes(n, columns).
template <class T>
void add_columns(const Queue& queue, const T* x, std::int64_t n, std::int64_t columns, std::int64_t stride, float* partials, float* to, const float* beta,
                 bool accumulate) {
  const dim3 grid(grid_of(parts(columns, 32)).x, static_cast<unsigned>(row_parts(n)));
  launch(queue, grid, dim3(256), 0, column_sums_kernel<T>, x, n, columns, stride, partials);
  add_parts(queue, partials, n, columns, columns, to, beta, accumulate);
}

}  // namespace raylite::cuda

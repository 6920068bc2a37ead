// Tensor cores by the instructions that every GPU since Ampere has: products of 16 x 16 and 16 x 8 halves by a warp, the loads of their
// fragments from shared memory, and copies to there that do not pass through registers. With g = lane / 4, t = lane % 4:
//   A (16 x 16): [0] rows g, columns 2t 2t+1; [1] row g + 8; [2] columns + 8; [3] both      B (16 x 8): [0] rows 2t 2t+1, column g; [1] rows + 8
//   C (16 x 8): [0] [1] row g, columns 2t 2t+1; [2] [3] row g + 8
#pragma once
#include "cuda/storage.cuh"

namespace raylite::cuda {

/// Two numbers of T side by side, the first in the low half.
template <class T>
__device__ inline std::uint32_t pack_pair(float low, float high) {
  return static_cast<std::uint32_t>(narrow<T>(high).bits) << 16 | narrow<T>(low).bits;
}

#if defined(__CUDACC__)

template <class T>
__device__ inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

__device__ inline std::uint32_t shared_address(const void* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); }

/// Four 8 x 8 matrices: lane l gives the address of row l % 8 of matrix l / 8, and gets of each the numbers 2t, 2t + 1 of row g.
template <class T>
__device__ inline void load_matrices(std::uint32_t (&r)[4], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
/// The same of their transposes: column g of rows 2t, 2t + 1.
template <class T>
__device__ inline void load_transposed(std::uint32_t (&r)[4], const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

/// 16 bytes to shared memory, zeros where there are none.
__device__ inline void copy_ahead(void* to, const void* from, bool is_there) {
  const int bytes = is_there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
/// Ends a group of copies.
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all groups but the last `kLeft`.
template <int kLeft>
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

#else

inline float half_of(std::uint32_t pair, int i, BFloat16) { return widen(BFloat16{static_cast<std::uint16_t>(pair >> (16 * i))}); }
inline float half_of(std::uint32_t pair, int i, Float16) { return widen(Float16{static_cast<std::uint16_t>(pair >> (16 * i))}); }

template <class T>
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  std::uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const unsigned char* all = emulate::exchange_all(mine, sizeof(mine));
  const auto word = [&](int lane, int i) {
    std::uint32_t value;
    std::memcpy(&value, all + lane * 64 + i * 4, 4);
    return value;
  };
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; k++) {
      const std::uint32_t left = word(row % 8 * 4 + k % 8 / 2, (row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0));
      const std::uint32_t right = word(column * 4 + k % 8 / 2, 4 + (k >= 8 ? 1 : 0));
      sum += half_of(left, k % 2, T{}) * half_of(right, k % 2, T{});
    }
    c[i] += sum;
  }
  emulate::sync_warp();
}

template <class T>
void load_rows(std::uint32_t (&r)[4], const T* row, bool is_transposed) {
  const unsigned char* all = emulate::exchange_all(&row, sizeof(row));
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int i = 0; i < 4; i++) {
    const auto at = [&](int of) {
      const T* address;
      std::memcpy(&address, all + (8 * i + of) * 64, sizeof(address));
      return address;
    };
    const int g = lane / 4, t = lane % 4;
    const std::uint32_t low = is_transposed ? at(2 * t)[g].bits : at(g)[2 * t].bits;
    const std::uint32_t high = is_transposed ? at(2 * t + 1)[g].bits : at(g)[2 * t + 1].bits;
    r[i] = high << 16 | low;
  }
  emulate::sync_warp();
}
template <class T>
void load_matrices(std::uint32_t (&r)[4], const T* row) {
  load_rows(r, row, false);
}
template <class T>
void load_transposed(std::uint32_t (&r)[4], const T* row) {
  load_rows(r, row, true);
}

inline void copy_ahead(void* to, const void* from, bool is_there) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 || (is_there && reinterpret_cast<std::uintptr_t>(from) % 16 != 0)) {
    emulate::stop("a copy of 16 bytes that is not aligned to them");
  }
  if (is_there) std::memcpy(to, from, 16);
  else std::memset(to, 0, 16);
}
inline void end_copies() {}
template <int kLeft>
void await_copies() {}

#endif

}  // namespace raylite::cuda

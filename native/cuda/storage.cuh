// Loads and stores of the storage types: a load widens to float, a store rounds to nearest even, as native/cpu/storage.h.
#pragma once
#include "core/storage.h"
#include "cuda/launch.cuh"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include <immintrin.h>
#endif

namespace raylite::cuda {

__device__ inline float float_of(std::uint32_t bits) {
#if defined(__CUDACC__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
#endif
}

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(BFloat16 x) {
  return float_of(static_cast<std::uint32_t>(x.bits) << 16);
}
__device__ inline float widen(Float16 x) {
#if defined(__CUDACC__)
  return __half2float(__ushort_as_half(x.bits));
#else
  return _cvtsh_ss(x.bits);
#endif
}

__device__ inline std::uint32_t bits_of(float x) {
#if defined(__CUDACC__)
  return __float_as_uint(x);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
#endif
}

template <class T>
__device__ inline T narrow(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, BFloat16>) {
#if defined(__CUDACC__)
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    const std::uint32_t wide = bits_of(x);
    const std::uint32_t rounded = x != x ? wide | 0x400000 : wide + 0x7fff + ((wide >> 16) & 1);
    return {static_cast<std::uint16_t>(rounded >> 16)};
#endif
  } else {
#if defined(__CUDACC__)
    return {__half_as_ushort(__float2half_rn(x))};
#else
    return {static_cast<std::uint16_t>(_cvtss_sh(x, 0))};
#endif
  }
}

/// The value that a tensor of T gives back for x.
template <class T>
__device__ inline float rounded_to(float x) {
  return widen(narrow<T>(x));
}

/// W numbers that follow each other, as floats in registers.
template <int W>
struct Pack {
  float at[W];
};

/// W numbers of T from p on, aligned to their bytes or to 16.
template <int W, class T>
__device__ inline Pack<W> load_pack(const T* p) {
  Pack<W> pack;
  if constexpr (W == 1) {
    pack.at[0] = widen(*p);
  } else {
    constexpr int kBytes = W * static_cast<int>(sizeof(T));
    using Word = std::conditional_t<kBytes % 16 == 0, uint4, std::conditional_t<kBytes % 8 == 0, uint2, std::uint32_t>>;
    constexpr int kWords = kBytes / static_cast<int>(sizeof(Word));
    constexpr int kEach = W / kWords;
    RL_UNROLL
    for (int w = 0; w < kWords; w++) {
      const Word word = reinterpret_cast<const Word*>(p)[w];
      T values[kEach];
      memcpy(values, &word, sizeof(Word));
      RL_UNROLL
      for (int i = 0; i < kEach; i++) pack.at[w * kEach + i] = widen(values[i]);
    }
  }
  return pack;
}

/// Stores W numbers as they are.
template <int W, class T>
__device__ inline void store_values(T* p, const T* values) {
  if constexpr (W == 1) {
    *p = values[0];
  } else {
    constexpr int kBytes = W * static_cast<int>(sizeof(T));
    using Word = std::conditional_t<kBytes % 16 == 0, uint4, std::conditional_t<kBytes % 8 == 0, uint2, std::uint32_t>>;
    constexpr int kWords = kBytes / static_cast<int>(sizeof(Word));
    RL_UNROLL
    for (int w = 0; w < kWords; w++) {
      Word word;
      memcpy(&word, values + w * (W / kWords), sizeof(Word));
      reinterpret_cast<Word*>(p)[w] = word;
    }
  }
}

template <int W, class T>
__device__ inline void store_pack(T* p, const Pack<W>& pack) {
  T values[W];
  RL_UNROLL
  for (int i = 0; i < W; i++) values[i] = narrow<T>(pack.at[i]);
  store_values<W>(p, values);
}

/// How many numbers a thread takes at once where memory is aligned to them.
template <class T>
constexpr int kPack = sizeof(T) == 4 ? 4 : 8;

/// Whether packs can be used: the address is a multiple of 16 bytes.
inline bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }
template <class... P>
bool are_aligned(const P*... p) {
  return (is_aligned(p) && ...);
}

}  // namespace raylite::cuda

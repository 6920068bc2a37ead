// Results that are too many to be found in the caches by whoever reads them: written around the caches, so that memory is not
// read before it is overwritten.
#pragma once
#include "cpu/storage.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kKeptWidth = 4096;  // elements of a row that a kernel keeps in the first cache to read it again
constexpr std::int64_t kAroundBytes = std::int64_t{32} << 20;  // of one result: more than a core's share of any cache

/// Whether a result `out` [n, d] is written around the caches. `in_place`: it lies on an operand, which is in them anyway.
/// Results of 16 bits are not: a vector of them is half a line, and half lines leave a core one by one.
template <class T>
RL_INLINE bool goes_around(const T* out, std::int64_t n, std::int64_t d, bool in_place) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    const bool is_whole = reinterpret_cast<std::uintptr_t>(out) % 64 == 0 && d % kLanes == 0;
    return is_whole && !in_place && n * d * 4 >= kAroundBytes;
  }
#endif
  return false;
}

/// store_n of a part of a result for which goes_around() said `around`.
template <class T>
RL_INLINE void store_around(T* p, Floats x, int n, bool around) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    if (around) {
      _mm512_stream_ps(p, x);
      return;
    }
  }
#endif
  store_n(p, x, n);
}

/// Behind the last part: others may read what was written from here on.
RL_INLINE void end_around(bool around) {
#if defined(__AVX512F__)
  if (around) _mm_sfence();
#endif
}

}  // namespace raylite::RL_ISA

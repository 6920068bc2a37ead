// Rows of results that are too many to be found in the caches by whoever reads them: written around the caches, so that memory
// is not read before it is overwritten. A row is made in a buffer of this thread and leaves it when it is complete.
#pragma once
#include "cpu/storage.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kAroundBytes = std::int64_t{32} << 20;  // of one result: more than a core's share of any cache
constexpr std::int64_t kAroundWidth = 4096;                    // elements: the buffer stays in the first cache

template <class T>
struct RowsAround {
  alignas(64) T buffer[kAroundWidth];
  bool is_around = false;
};

/// Decides for a result `out` [n, d]. `in_place`: it lies on an operand, which is in the caches anyway.
template <class T>
RL_INLINE void decide(RowsAround<T>& rows, const T* out, std::int64_t n, std::int64_t d, bool in_place) {
#if defined(__AVX512F__)
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(out) % 64 == 0 && d * sizeof(T) % 64 == 0;
  rows.is_around = is_aligned && !in_place && d <= kAroundWidth && n * d * static_cast<std::int64_t>(sizeof(T)) >= kAroundBytes;
#endif
}

/// Where to write the row that belongs at `row`.
template <class T>
RL_INLINE T* begin_row(RowsAround<T>& rows, T* row) {
  return rows.is_around ? rows.buffer : row;
}

template <class T>
RL_INLINE void end_row(const RowsAround<T>& rows, T* row, std::int64_t d) {
#if defined(__AVX512F__)
  if (!rows.is_around) return;
  const auto* from = reinterpret_cast<const __m512i*>(rows.buffer);
  auto* to = reinterpret_cast<__m512i*>(row);
  const std::int64_t vectors = d * static_cast<std::int64_t>(sizeof(T)) / 64;
  for (std::int64_t v = 0; v < vectors; v++) _mm512_stream_si512(to + v, _mm512_load_si512(from + v));
#endif
}

/// Behind the last row: others may read what was written from here on.
template <class T>
RL_INLINE void end_rows(const RowsAround<T>& rows) {
#if defined(__AVX512F__)
  if (rows.is_around) _mm_sfence();
#endif
}

}  // namespace

}  // namespace raylite::RL_ISA

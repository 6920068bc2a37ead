// Results that are too many to be found in the caches by whoever reads them: written around the caches, so that memory is not
// read before it is overwritten.
#pragma once
#include "cpu/blocks.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

constexpr std::int64_t kKeptWidth = 4096;  // elements of a row that a kernel keeps in the first cache to read it again
// Of one result: half of a large cache, which holds operands too; whoever reads from the front finds nothing of it there.
constexpr std::int64_t kAroundBytes = std::int64_t{16} << 20;

/// How a result of T is written: asked once per kernel.
template <class T>
struct Writer {
  bool around;
  bool rounds;  // by the CPU's own instruction

  /// A result `out` [n, d]. `in_place`: it lies on an operand, which is in the caches anyway.
  RL_MEMBER Writer(const T* out, std::int64_t n, std::int64_t d, bool in_place) : around(false), rounds(has_rounding()) {
#if defined(__AVX512F__)
    const bool is_whole = reinterpret_cast<std::uintptr_t>(out) % 64 == 0 && d * static_cast<std::int64_t>(sizeof(T)) % 64 == 0;
    around = is_whole && !in_place && n * d * static_cast<std::int64_t>(sizeof(T)) >= kAroundBytes;
#endif
  }

  RL_MEMBER void put(T* p, const Rounded<T>& x, int n) const {
#if defined(__AVX512F__)
    if (around) {
      if constexpr (std::is_same_v<T, float>) {
        _mm512_stream_ps(p, x.value.part[0]);
      } else {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(p), x.value);
      }
      return;
    }
#endif
    store_rounded(p, x, n);
  }
  RL_MEMBER void put(T* p, const Block<kPartsOf<T>>& x, int n) const { put(p, round_block<T>(x, rounds), n); }

  /// Behind the last part: others may read what was written from here on.
  RL_MEMBER void end() const {
#if defined(__AVX512F__)
    if (around) _mm_sfence();
#endif
  }
};

/// Copies bytes, `around` the caches where a Writer of all of them says so.
RL_INLINE void copy_around(std::uint8_t* to, const std::uint8_t* from, std::int64_t count, bool around) {
  std::int64_t i = 0;
#if defined(__AVX512F__)
  if (around) {
    for (; i + 64 <= count; i += 64) _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
    _mm_sfence();
  }
#endif
  if (i < count) __builtin_memcpy(to + i, from + i, static_cast<std::size_t>(count - i));
}

/// out[i] = what f(i, n) gives for each block of this thread's share of 0..count-1.
template <class T, class F>
RL_INLINE void write_elements(const Team& team, T* out, std::int64_t count, bool in_place, F f) {
  const Range all = share_elements(team, count);
  const Writer<T> writer(out, 1, count, in_place);
  each_block<T>(all.end - all.begin, [&](std::int64_t j, int n) __attribute__((always_inline)) {
    writer.put(out + all.begin + j, f(all.begin + j, n), n);
  });
  writer.end();
}

}  // namespace raylite::RL_ISA

#include "store/copy.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace raylite {

#if defined(__x86_64__)
// Non-temporal stores write whole cache lines, so four of them fill one line before the next begins.
static void stream_lines(char* to, const char* from, std::size_t lines) {
  for (std::size_t line = 0; line < lines; ++line, to += 64, from += 64) {
    const auto* source = reinterpret_cast<const __m128i*>(from);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    auto* target = reinterpret_cast<__m128i*>(to);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  _mm_sfence();  // non-temporal stores are weakly ordered: a seal that follows must not overtake them
}

void copy_bytes(void* to, const void* from, std::size_t bytes) noexcept {
  if (bytes < kStreamBytes) {
    std::memcpy(to, from, bytes);
    return;
  }
  auto* target = static_cast<char*>(to);
  auto* source = static_cast<const char*>(from);
  const std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(target) % 64) % 64;
  const std::size_t lines = (bytes - head) / 64;
  std::memcpy(target, source, head);
  stream_lines(target + head, source + head, lines);
  const std::size_t done = head + lines * 64;
  std::memcpy(target + done, source + done, bytes - done);
}
#else
void copy_bytes(void* to, const void* from, std::size_t bytes) noexcept { std::memcpy(to, from, bytes); }
#endif

}  // namespace raylite

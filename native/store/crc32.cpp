// Two siblings chosen at run time: carry-less multiplication (Gopal et al., "Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ", Intel 2009; about 10 GB/s) and slicing by eight tables (about 1.5 GB/s).
#include "store/crc32.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace raylite {

namespace {

constexpr std::uint32_t kPolynomial = 0xEDB88320u;  // reflected

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t table = 1; table < 8; ++table) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t previous = tables[table - 1][byte];
      tables[table][byte] = (previous >> 8) ^ tables[0][previous & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

/// Takes and returns the inverted register, as all functions below.
std::uint32_t crc_by_tables(std::uint32_t crc, const unsigned char* data, std::size_t bytes) {
  while (bytes >= 8) {
    std::uint32_t low, high;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + 4, 4);
    low ^= crc;
    crc = kTables[7][low & 0xFF] ^ kTables[6][(low >> 8) & 0xFF] ^ kTables[5][(low >> 16) & 0xFF] ^
          kTables[4][low >> 24] ^ kTables[3][high & 0xFF] ^ kTables[2][(high >> 8) & 0xFF] ^
          kTables[1][(high >> 16) & 0xFF] ^ kTables[0][high >> 24];
    data += 8;
    bytes -= 8;
  }
  for (; bytes > 0; --bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ *data++) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
/// bytes >= 64 and a multiple of 16. Constants: x^n mod P for the fold distances, and Barrett's reduction (paper, p. 16 ff.).
__attribute__((target("pclmul,sse4.1"))) std::uint32_t crc_by_folding(std::uint32_t crc, const unsigned char* data,
                                                                      std::size_t bytes) {
  const __m128i fold4 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i fold1 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  const __m128i fold64 = _mm_set_epi64x(0, 0x0163cd6124);
  const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
  const auto load = [](const unsigned char* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };

  __m128i x0 = _mm_xor_si128(load(data), _mm_cvtsi32_si128(static_cast<int>(crc)));
  __m128i x1 = load(data + 16), x2 = load(data + 32), x3 = load(data + 48);
  data += 64;
  bytes -= 64;
  const auto fold = [](__m128i x, __m128i by, __m128i next) __attribute__((target("pclmul,sse4.1"))) {
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11)), next);
  };
  for (; bytes >= 64; data += 64, bytes -= 64) {
    x0 = fold(x0, fold4, load(data));
    x1 = fold(x1, fold4, load(data + 16));
    x2 = fold(x2, fold4, load(data + 32));
    x3 = fold(x3, fold4, load(data + 48));
  }
  x0 = fold(x0, fold1, x1);
  x0 = fold(x0, fold1, x2);
  x0 = fold(x0, fold1, x3);
  for (; bytes >= 16; data += 16, bytes -= 16) x0 = fold(x0, fold1, load(data));

  const __m128i mask32 = _mm_setr_epi32(-1, 0, -1, 0);
  x0 = _mm_xor_si128(_mm_srli_si128(x0, 8), _mm_clmulepi64_si128(x0, fold1, 0x10));  // 128 to 96 bits
  x0 = _mm_xor_si128(_mm_srli_si128(x0, 4), _mm_clmulepi64_si128(_mm_and_si128(x0, mask32), fold64, 0x00));  // to 64
  __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(x0, mask32), barrett, 0x10);
  quotient = _mm_clmulepi64_si128(_mm_and_si128(quotient, mask32), barrett, 0x00);
  return static_cast<std::uint32_t>(_mm_extract_epi32(_mm_xor_si128(x0, quotient), 1));
}

bool can_fold() { return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"); }
#endif

}  // namespace

std::uint32_t crc32(const void* data, std::size_t bytes, std::uint32_t before) noexcept {
  auto* from = static_cast<const unsigned char*>(data);
  std::uint32_t crc = ~before;
#if defined(__x86_64__)
  if (bytes >= 64 && can_fold()) {
    const std::size_t folded = bytes & ~std::size_t{15};
    crc = crc_by_folding(crc, from, folded);
    from += folded;
    bytes -= folded;
  }
#endif
  return ~crc_by_tables(crc, from, bytes);
}

}  // namespace raylite

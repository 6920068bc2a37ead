// CRC-32 (IEEE 802.3, the polynomial of zlib and gzip), so that a checksum made here can be checked by anybody.
#pragma once
#include <cstddef>
#include <cstdint>

namespace raylite {

/// @param before the checksum of what comes before `data`
std::uint32_t crc32(const void* data, std::size_t bytes, std::uint32_t before = 0) noexcept;

}  // namespace raylite

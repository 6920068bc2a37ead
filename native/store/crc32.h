// CRC-32 (IEEE 802.3, the polynomial of zlib and gzip), so that a checksum made here can be checked by anybody.
#pragma once
#include <cstddef>
#include <cstdint>

namespace raylite {

std::uint32_t crc32(const void* data, std::size_t bytes) noexcept;

}  // namespace raylite

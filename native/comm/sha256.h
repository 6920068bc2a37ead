// SHA-256 (FIPS 180-4) and HMAC (RFC 2104), for the handshake of TCP groups alone: a few hundred bytes per connection.
#pragma once
#include <array>
#include <cstdint>
#include <string>

namespace raylite {

using Digest = std::array<std::uint8_t, 32>;

Digest sha256(const std::string& bytes);
Digest hmac_sha256(const std::string& key, const std::string& bytes);

/// Takes the same time wherever the two differ.
bool equal_in_constant_time(const Digest& a, const Digest& b);

}  // namespace raylite

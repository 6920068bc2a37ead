// Copies into shared memory. Large copies go past the caches: the bytes are read later, by another process.
#pragma once
#include <cstddef>

namespace raylite {

constexpr std::size_t kStreamBytes = 1 << 20;  // from this length on, a copy would evict more than it saves

/// Copies `bytes` bytes; the regions must not overlap. Complete (visible to other cores) on return.
void copy_bytes(void* to, const void* from, std::size_t bytes) noexcept;

}  // namespace raylite

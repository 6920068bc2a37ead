#include "store/pins.h"

namespace raylite {

// pin: bit, then tag. revoke: tag, then bits. Both in one total order (seq_cst), so that at least one sees the other.

void PinEntry::publish(std::uint64_t new_tag) noexcept {
  for (auto& word : readers) word.store(0);
  tag.store(new_tag);
}

bool PinEntry::pin(std::uint64_t expected, std::size_t reader) noexcept {
  readers[reader / 64].fetch_or(std::uint64_t{1} << reader % 64);
  if (tag.load() == expected) return true;
  unpin(reader);
  return false;
}

void PinEntry::unpin(std::size_t reader) noexcept {
  readers[reader / 64].fetch_and(~(std::uint64_t{1} << reader % 64));
}

bool PinEntry::revoke(std::uint64_t expected) noexcept {
  std::uint64_t seen = expected;
  if (!tag.compare_exchange_strong(seen, 0)) return true;
  for (const auto& word : readers) {
    if (word.load() == 0) continue;
    tag.store(expected);
    return false;
  }
  return true;
}

}  // namespace raylite

// Who reads what, said in shared memory: a process that maps an object sets its bit beside the object's tag, so that the
// node may move the object away only when nobody does. No lock, no message; the bits of a process that died are cleared
// by its node. One entry for each kPinBytes of the arena: two objects never begin in the same entry's bytes.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace raylite {

constexpr std::size_t kPinBytes = 64 << 10;      // objects in the arena are longer than this
constexpr std::size_t kReadersMax = 384;         // processes of a node that may pin

/// tag 0: no object begins here, or it is being moved away.
struct alignas(64) PinEntry {
  std::atomic<std::uint64_t> tag;
  std::atomic<std::uint64_t> unused;
  std::atomic<std::uint64_t> readers[kReadersMax / 64];

  /// The maker of an object, before anybody is told of it.
  void publish(std::uint64_t new_tag) noexcept;
  /// True: the object `expected` is here and stays until unpin. False: it is not here any more.
  bool pin(std::uint64_t expected, std::size_t reader) noexcept;
  void unpin(std::size_t reader) noexcept;
  /// True: nobody reads `expected` and nobody can begin to (or another object is here). False: somebody reads it.
  bool revoke(std::uint64_t expected) noexcept;
};
static_assert(sizeof(PinEntry) == 64, "one cache line");

/// Bytes of the table behind an arena of `arena_bytes`.
constexpr std::size_t pin_table_bytes(std::size_t arena_bytes) {
  return (arena_bytes + kPinBytes - 1) / kPinBytes * sizeof(PinEntry);
}

}  // namespace raylite

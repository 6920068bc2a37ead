// What keeps the bytes of a connection from being read or changed on the way: AES-256-GCM (NIST SP 800-38D), one key for each
// direction of each connection, messages numbered by both sides. The cipher is that of the process (Node brings OpenSSL along).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/sha256.h"

namespace raylite {

/// One direction of a connection. One that was made of nothing seals nothing.
class Seal {
 public:
  static constexpr std::size_t kTagBytes = 16;

  Seal() = default;
  enum class Side { kSender, kReceiver };
  /// Throws CommError where the process has no such cipher.
  Seal(const Digest& key, Side side);

  bool seals() const { return context_ != nullptr; }
  /// What a message is longer on its way.
  std::size_t tag_bytes() const { return seals() ? kTagBytes : 0; }
  /// The next message to leave: `bytes` from `in` to `out`, its tag behind them. Throws CommError.
  void close(const void* in, std::size_t bytes, std::uint8_t* out);
  /// The next message that came, in place. False: it is not what was sent next.
  bool open(std::uint8_t* data, std::size_t bytes, const std::uint8_t* tag);

 private:
  struct Free {
    void operator()(void* context) const noexcept;
  };
  void begin();

  std::unique_ptr<void, Free> context_;
  std::uint64_t messages_ = 0;  // so far; never the same nonce twice
};

}  // namespace raylite

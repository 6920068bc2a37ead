// Zeroed, page-aligned memory of a device, on huge pages where the system offers them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace raylite {

/// One anonymous mapping; unmapped by release() or the destructor, whichever comes first.
class Memory {
 public:
  /// Throws EngineError("ENGINE") when the system has no such memory to give.
  explicit Memory(std::size_t bytes);
  ~Memory() { release(); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::uint8_t* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  void release() noexcept;

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t bytes_ = 0;
  void* mapping_ = nullptr;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace raylite

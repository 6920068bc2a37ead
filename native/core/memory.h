// Zeroed, page-aligned memory of a device: the host's, on huge pages where the system offers them, or what a device gave.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

namespace raylite {

/// One anonymous mapping, or memory of a device; given back by release() or the destructor, whichever comes first.
class Memory {
 public:
  /// Throws EngineError("ENGINE") when the system has no such memory to give.
  explicit Memory(std::size_t bytes);
  /// Memory of a device, which `give_back` takes again; `is_on_host`: whether it is the host's to touch.
  Memory(std::uint8_t* data, std::size_t bytes, bool is_on_host, std::function<void()> give_back)
      : data_(data), bytes_(bytes), is_on_host_(is_on_host), give_back_(std::move(give_back)) {}
  ~Memory() { release(); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::uint8_t* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  bool is_on_host() const { return is_on_host_; }
  void release() noexcept;

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t bytes_ = 0;
  const bool is_on_host_ = true;
  void* mapping_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::function<void()> give_back_;
};

}  // namespace raylite

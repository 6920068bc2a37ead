// Bytes that wait for room in the arena, in memory of their own.
#pragma once
#include <cstddef>

namespace raylite {

class Aside {
 public:
  Aside() = default;
  ~Aside();
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

  /// Memory for `bytes`, what it held before where that is enough. Throws std::bad_alloc.
  char* reserve(std::size_t bytes);
  const char* address() const { return address_; }
  /// As asked for last.
  std::size_t bytes() const { return bytes_; }

 private:
  char* address_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace raylite

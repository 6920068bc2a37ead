// Parts of the arena in files, each with its checksum: written from where they lie, and mapped to be read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace raylite {

struct SpillPart {
  const char* from;
  std::size_t bytes;
  std::size_t at;  // where it begins in the file
};

/// Writes the parts, in order of `at`, and returns their checksums. Throws StoreError, and then some of it may be there.
std::vector<std::uint32_t> write_parts(int file, const std::vector<SpillPart>& parts);

/// A part of a file as memory: what is written to it changes a copy of this process alone. Keeps its bytes when the file is unlinked.
class FilePart {
 public:
  /// Throws StoreError when the file is not there, ends before the part does, or the part does not have this checksum.
  /// @param at a multiple of the page size
  FilePart(const std::string& path, std::size_t at, std::size_t bytes, std::uint32_t crc);
  ~FilePart();
  FilePart(const FilePart&) = delete;
  FilePart& operator=(const FilePart&) = delete;

  char* address() const { return address_; }
  std::size_t bytes() const { return bytes_; }

 private:
  [[noreturn]] void fail(const std::string& what);

  char* address_ = nullptr;
  std::size_t bytes_;
};

}  // namespace raylite

#include "store/aside.h"

#include <sys/mman.h>

#include <new>

namespace raylite {

// Huge pages: 36 ms for a copy of 256 MiB into new memory, where pages of 4 KiB take 123; into memory that is there it takes 15.
char* Aside::reserve(std::size_t bytes) {
  if (bytes > mapped_bytes_) {
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc();
    madvise(address, bytes, MADV_HUGEPAGE);
    if (mapped_bytes_ > 0) munmap(address_, mapped_bytes_);
    address_ = static_cast<char*>(address);
    mapped_bytes_ = bytes;
  }
  bytes_ = bytes;
  return address_;
}

Aside::~Aside() {
  if (mapped_bytes_ > 0) munmap(address_, mapped_bytes_);
}

}  // namespace raylite

// Anonymous mappings aligned to 2 MiB when they are large, so that the kernel can back them with huge pages.
#include "core/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "core/error.h"

namespace raylite {

namespace {
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = 2u << 20;
}  // namespace

Memory::Memory(std::size_t bytes) : bytes_(bytes) {
  const bool huge = bytes >= kHugePage;
  const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage + (bytes == 0 ? kPage : 0);
  mapped_bytes_ = huge ? rounded + kHugePage : rounded;
  void* mapping = mapped_bytes_ < bytes ? MAP_FAILED
                                        : mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    throw EngineError("ENGINE", "cannot allocate " + std::to_string(bytes) + " bytes: " + std::strerror(errno));
  }
  mapping_ = mapping;
  auto address = reinterpret_cast<std::uintptr_t>(mapping);
  if (huge) {
    address = (address + kHugePage - 1) / kHugePage * kHugePage;
    madvise(reinterpret_cast<void*>(address), rounded, MADV_HUGEPAGE);  // advice: without it, only slower
  }
  data_ = reinterpret_cast<std::uint8_t*>(address);
}

void Memory::release() noexcept {
  if (mapping_ != nullptr) munmap(mapping_, mapped_bytes_);
  if (give_back_) give_back_();
  give_back_ = nullptr;
  mapping_ = nullptr;
  data_ = nullptr;
}

}  // namespace raylite

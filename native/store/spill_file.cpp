#include "store/spill_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "store/arena.h"
#include "store/crc32.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; older kernels answer EINVAL
#endif

namespace raylite {

namespace {

// Long enough that the page cache takes large pages for it, which halves the time of a write.
constexpr std::size_t kWriteBytes = 4 << 20;
// Summed a piece at a time while the disk fetches what follows.
constexpr std::size_t kReadBytes = 16 << 20;

std::string reason(int error) { return std::generic_category().message(error); }

struct OpenFile {
  const int fd;
  ~OpenFile() { ::close(fd); }
};

}  // namespace

std::vector<std::uint32_t> write_parts(int file, const std::vector<SpillPart>& parts) {
  std::vector<std::uint32_t> checksums;
  if (parts.empty()) return checksums;
  const auto end = static_cast<off_t>(parts.back().at + parts.back().bytes);
  // Room for all of it at once is cheaper than a little with each write. Where the file system cannot, the writes ask.
  if (fallocate(file, 0, 0, end) != 0 && errno != EOPNOTSUPP && errno != EINTR) {
    throw StoreError("no room for " + std::to_string(end) + " bytes: " + reason(errno));
  }
  for (const auto& part : parts) {
    std::uint32_t crc = 0;
    for (std::size_t done = 0; done < part.bytes;) {
      const std::size_t piece = std::min(kWriteBytes, part.bytes - done);
      const ssize_t written = pwrite(file, part.from + done, piece, static_cast<off_t>(part.at + done));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) throw StoreError("cannot write: " + reason(written < 0 ? errno : ENOSPC));
      crc = crc32(part.from + done, static_cast<std::size_t>(written), crc);
      done += static_cast<std::size_t>(written);
    }
    checksums.push_back(crc);
  }
  return checksums;
}

FilePart::FilePart(const std::string& path, std::size_t at, std::size_t bytes, std::uint32_t crc) : bytes_(bytes) {
  const OpenFile file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
  if (file.fd < 0) throw StoreError("cannot open " + path + ": " + reason(errno));
  struct stat status;
  if (fstat(file.fd, &status) != 0) throw StoreError("cannot look at " + path + ": " + reason(errno));
  const auto size = static_cast<std::size_t>(status.st_size);
  if (at > size || bytes > size - at) throw StoreError(path + " ends before byte " + std::to_string(at + bytes));
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.fd, static_cast<off_t>(at));
  if (address == MAP_FAILED) throw StoreError("cannot map " + path + ": " + reason(errno));
  address_ = static_cast<char*>(address);
  std::uint32_t found = 0;
  for (std::size_t done = 0; done < bytes; done += kReadBytes) {
    posix_fadvise(file.fd, static_cast<off_t>(at + done), 2 * kReadBytes, POSIX_FADV_WILLNEED);
    const std::size_t piece = std::min(kReadBytes, bytes - done);
    // So a disk that cannot be read is an error, not a SIGBUS.
    if (madvise(address_ + done, piece, MADV_POPULATE_READ) != 0 && errno == EFAULT) {
      fail(path + " cannot be read at byte " + std::to_string(at + done));
    }
    found = crc32(address_ + done, piece, found);
  }
  if (found != crc) fail("the bytes at " + std::to_string(at) + " of " + path + " are damaged");
}

void FilePart::fail(const std::string& what) {
  munmap(address_, bytes_);
  throw StoreError(what);
}

FilePart::~FilePart() { munmap(address_, bytes_); }

}  // namespace raylite

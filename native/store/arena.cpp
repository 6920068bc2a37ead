#include "store/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; older kernels answer EINVAL and fallocate takes over
#endif

namespace raylite {

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kBlockBytes = 256 << 10;    // the unit in which memory is asked for
constexpr std::size_t kPrefaultStep = 4 << 20;    // between two looks at the goal: about 4 ms

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

[[noreturn]] void fail(const std::string& what, int error) {
  throw StoreError(what + ": " + std::generic_category().message(error));
}

std::string region(std::size_t offset, std::size_t length) {
  return "[" + std::to_string(offset) + ", " + std::to_string(offset) + " + " + std::to_string(length) + ")";
}

char* map_file(const std::string& path, int file, std::size_t bytes, int flags) {
  // NORESERVE: private pages are made only by stray writes, so that the arena must not count twice against the limit.
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, file, 0);
  if (address == MAP_FAILED) fail("cannot map " + std::to_string(bytes) + " bytes of " + path, errno);
  madvise(address, bytes, MADV_HUGEPAGE);  // used where the system offers huge pages for shared memory
  return static_cast<char*>(address);
}

}  // namespace

std::shared_ptr<Arena> Arena::create(const std::string& path, std::size_t bytes) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (file < 0) fail("cannot create the arena " + path, errno);
  const std::shared_ptr<Arena> arena(new Arena(path, file, bytes, true));  // from here on its destructor unlinks
  struct statvfs fs;
  if (fstatvfs(file, &fs) != 0) fail("cannot ask for the free space of " + path, errno);
  const auto free_bytes = static_cast<std::size_t>(fs.f_bavail) * fs.f_frsize;
  if (bytes > free_bytes) {
    throw StoreError("the arena " + path + " needs " + std::to_string(bytes) + " bytes but its file system has " +
                     std::to_string(free_bytes) + " free. Ask for a smaller arena or enlarge /dev/shm");
  }
  if (ftruncate(file, static_cast<off_t>(arena->mapped_bytes_)) != 0) fail("cannot size the arena " + path, errno);
  arena->map();
  return arena;
}

std::shared_ptr<Arena> Arena::open(const std::string& path, std::size_t bytes) {
  const int file = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) fail("cannot open the arena " + path, errno);
  const std::shared_ptr<Arena> arena(new Arena(path, file, bytes, false));
  struct stat status;
  if (fstat(file, &status) != 0) fail("cannot look at the arena " + path, errno);
  if (!S_ISREG(status.st_mode) || status.st_uid != geteuid()) {
    throw StoreError(path + " is not an arena of this user");
  }
  if (static_cast<std::size_t>(status.st_size) < arena->mapped_bytes_) {
    throw StoreError("the arena " + path + " has " + std::to_string(status.st_size) + " bytes, not " +
                     std::to_string(arena->mapped_bytes_));
  }
  arena->map();
  return arena;
}

Arena::Arena(std::string path, int file, std::size_t bytes, bool is_creator)
    : path_(std::move(path)),
      file_(file),
      bytes_(bytes),
      pins_at_(round_up(bytes, kPageBytes)),
      mapped_bytes_(pins_at_ + round_up(pin_table_bytes(bytes), kPageBytes)),
      is_creator_(is_creator) {}

void Arena::map() {
  blocks_.reset(new std::atomic<std::uint8_t>[round_up(mapped_bytes_, kBlockBytes) / kBlockBytes]());
  shared_ = map_file(path_, file_, mapped_bytes_, MAP_SHARED);
  private_ = map_file(path_, file_, mapped_bytes_, MAP_PRIVATE);
}

Arena::~Arena() {
  close();
  if (shared_) munmap(shared_, mapped_bytes_);
  if (private_) munmap(private_, mapped_bytes_);
  if (file_ >= 0) ::close(file_);
}

void Arena::check(std::size_t offset, std::size_t length) const {
  if (offset > bytes_ || length > bytes_ - offset) {
    throw StoreError("the region " + region(offset, length) + " is not inside the arena of " + std::to_string(bytes_) +
                     " bytes");
  }
}

// Asks the kernel for the memory of every block the region touches, once per process and block. Only then may the
// addresses be used: touching a page that a full /dev/shm cannot give would end the process with SIGBUS.
void Arena::ensure(std::size_t offset, std::size_t length, Need need) {
  if (length == 0) return;
  const auto wanted = static_cast<std::uint8_t>(need);
  for (std::size_t block = offset / kBlockBytes; block <= (offset + length - 1) / kBlockBytes; ++block) {
    if (blocks_[block].load(std::memory_order_acquire) >= wanted) continue;
    const std::size_t start = block * kBlockBytes;
    const std::size_t size = std::min(kBlockBytes, mapped_bytes_ - start);
    int error = EINVAL;
    // Pages of shared memory are mapped writable whether they are asked for by a read or a write; a read maps 16 at a time.
    if (need == Need::kMapped) error = madvise(shared_ + start, size, MADV_POPULATE_READ) == 0 ? 0 : errno;
    if (error == EINVAL || error == EINTR) {
      do {
        error = fallocate(file_, 0, static_cast<off_t>(start), static_cast<off_t>(size)) == 0 ? 0 : errno;
      } while (error == EINTR);
    }
    if (error == EFAULT) error = ENOSPC;  // how MADV_POPULATE_READ says that a touch would raise SIGBUS
    if (error != 0) fail("no memory for the region " + region(offset, length) + " of the arena " + path_, error);
    std::uint8_t known = blocks_[block].load(std::memory_order_relaxed);
    while (known < wanted && !blocks_[block].compare_exchange_weak(known, wanted, std::memory_order_release)) {
    }
  }
}

char* Arena::writable(std::size_t offset, std::size_t length) {
  check(offset, length);
  ensure(offset, length, Need::kMapped);
  return shared_ + offset;
}

char* Arena::readable(std::size_t offset, std::size_t length, bool is_written) {
  check(offset, length);
  if (!is_written) ensure(offset, length, Need::kBacked);
  return private_ + offset;
}

const char* Arena::shared(std::size_t offset, std::size_t length) {
  check(offset, length);
  ensure(offset, length, Need::kBacked);
  return shared_ + offset;
}

PinEntry& Arena::pins(std::size_t offset) {
  check(offset, 1);
  const std::size_t at = pins_at_ + offset / kPinBytes * sizeof(PinEntry);
  ensure(at, sizeof(PinEntry), Need::kBacked);
  return *reinterpret_cast<PinEntry*>(shared_ + at);
}

void Arena::forget(std::size_t offset, std::size_t length) {
  check(offset, length);
  if (length == 0) return;
  // Outwards to whole pages: what is shared is the truth for the neighbours of the region too.
  const std::size_t start = offset / kPageBytes * kPageBytes;
  const std::size_t end = round_up(offset + length, kPageBytes);
  if (madvise(private_ + start, end - start, MADV_DONTNEED) != 0) {
    fail("cannot forget the region " + region(offset, length), errno);
  }
}

void Arena::unlink() noexcept {
  // By inode: the name may have been taken over by a newer arena.
  struct stat ours, named;
  if (fstat(file_, &ours) == 0 && ::stat(path_.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
      ours.st_ino == named.st_ino) {
    ::unlink(path_.c_str());
  }
}

void Arena::prefault(std::size_t bytes) {
  {
    const std::lock_guard lock(prefault_mutex_);
    if (is_closing_ || bytes <= prefault_goal_) return;
    prefault_goal_ = std::min(bytes, bytes_);
    if (!prefaulter_.joinable()) prefaulter_ = std::thread([this] { prefault_loop(); });
  }
  prefault_changed_.notify_one();
}

// Memory without addresses (fallocate): so it is neither this process's own, nor does it need page tables.
void Arena::prefault_loop() noexcept {
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);  // on Linux: this thread alone
  for (std::size_t done = 0;;) {
    std::size_t goal = 0;
    {
      std::unique_lock lock(prefault_mutex_);
      prefault_changed_.wait(lock, [&] { return is_closing_ || prefault_goal_ > done; });
      if (is_closing_) return;
      goal = prefault_goal_;
    }
    const std::size_t step = std::min(kPrefaultStep, goal - done);
    try {
      ensure(done, step, Need::kBacked);
    } catch (const StoreError&) {
      return;  // no memory left: whoever needs the region is told when asking for it
    }
    done += step;
  }
}

void Arena::close() noexcept {
  {
    const std::lock_guard lock(prefault_mutex_);
    is_closing_ = true;
  }
  prefault_changed_.notify_one();
  if (prefaulter_.joinable()) prefaulter_.join();
  if (is_creator_) unlink();
}

}  // namespace raylite

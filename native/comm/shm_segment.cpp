#include "comm/shm_segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace raylite {

static_assert(std::atomic<std::uint32_t>::is_always_lock_free, "counters are shared between processes");

void Counter::wake_all() {
  syscall(SYS_futex, &value, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

// The store and the look at `sleepers` must not change places (nor the two in sleep_below): all four are seq_cst.
void Counter::advance(std::uint32_t to) {
  value.store(to, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) > 0) wake_all();
}

void Counter::ring() {
  value.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) > 0) wake_all();
}

void Counter::sleep_below(std::uint32_t target, int milliseconds) {
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  const std::uint32_t seen = value.load(std::memory_order_seq_cst);
  if (static_cast<std::int32_t>(seen - target) < 0) {
    const timespec limit{milliseconds / 1000, (milliseconds % 1000) * 1000000L};
    syscall(SYS_futex, &value, FUTEX_WAIT, seen, &limit, nullptr, 0);
  }
  sleepers.fetch_sub(1, std::memory_order_relaxed);
}

namespace {

constexpr std::uint32_t kMagic = 0x474C5252;  // "RRLG"
constexpr std::size_t kReasonBytes = 800;
constexpr int kJoinNapMs = 10;

std::string system_text(int error) { return std::generic_category().message(error); }

}  // namespace

struct alignas(64) ShmSegment::Header {
  std::uint32_t magic;
  std::uint32_t size;
  Counter joined;
  std::atomic<std::uint32_t> abort_state;  // 0 none, 1 being written, 2 written
  std::int32_t abort_rank;
  char abort_reason[kReasonBytes];
};

ShmSegment::ShmSegment(const std::string& name, const JoinOptions& options)
    : path_("/dev/shm/" + name), rank_(options.rank), size_(options.size) {
  if (name.empty() || name.find('/') != std::string::npos) {
    throw CommError("name: expected a file name without '/', got \"" + name + "\"", -1);
  }
  const Deadline deadline(options.timeout_ms);
  try {
    while (!open() && !create()) {
    }
    member(rank_).has_joined.store(1, std::memory_order_release);
    const std::uint32_t come = header_->joined.value.fetch_add(1, std::memory_order_seq_cst) + 1;
    header_->joined.wake_all();
    if (come == static_cast<std::uint32_t>(size_)) unlink();
    wait_for_all(options, deadline);
  } catch (...) {
    unlink();  // the group can never form: nobody shall find half of it
    release();
    throw;
  }
}

ShmSegment::~ShmSegment() {
  member(rank_).has_left.store(1, std::memory_order_release);
  release();
}

// True when this rank made the file. False: another was faster. The file gets its name when it is complete and locked,
// so that nobody ever finds half of one, or takes one for abandoned that is being made.
bool ShmSegment::create() {
  file_ = ::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file_ < 0) throw CommError("cannot create a file in /dev/shm: " + system_text(errno), -1);
  // All of it now: touching a page that a full /dev/shm cannot give would end the process with SIGBUS.
  const int error = posix_fallocate(file_, 0, static_cast<off_t>(bytes_of(size_)));
  if (error != 0) {
    throw CommError("cannot get " + std::to_string(bytes_of(size_)) + " bytes of shared memory for " + path_ + ": " +
                        system_text(error) + ". Enlarge /dev/shm",
                    -1);
  }
  map(bytes_of(size_));
  header_->magic = kMagic;
  header_->size = static_cast<std::uint32_t>(size_);
  try_lock(rank_);
  const std::string unnamed = "/proc/self/fd/" + std::to_string(file_);
  if (linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST) throw CommError("cannot create " + path_ + ": " + system_text(errno), -1);
  release();
  return false;
}

// True when this rank has its place in the file that another one made. False: there is none, or a dead group's (removed).
bool ShmSegment::open() {
  file_ = ::open(path_.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file_ < 0) {
    if (errno == ENOENT) return false;
    throw CommError("cannot open " + path_ + ": " + system_text(errno), -1);
  }
  // Where this rank is the one in the wrong, the file is not its to remove: the group may be forming well without it.
  const auto refuse = [this](const std::string& message, int rank) {
    release();
    throw CommError(message, rank);
  };
  struct stat status;
  if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
      static_cast<std::size_t>(status.st_size) < sizeof(Header)) {
    refuse(path_ + " is not the file of a group of this user", -1);
  }
  map(sizeof(Header));
  if (header_->magic != kMagic || static_cast<std::size_t>(status.st_size) != bytes_of(static_cast<int>(header_->size))) {
    refuse(path_ + " is not the file of a group", -1);
  }
  if (header_->size != static_cast<std::uint32_t>(size_)) {
    refuse("the group " + path_ + " has " + std::to_string(header_->size) + " ranks, not " + std::to_string(size_), -1);
  }
  map(bytes_of(size_));
  if (!try_lock(rank_)) refuse("rank " + std::to_string(rank_) + " has joined already", rank_);
  for (int rank = 0; rank < size_; ++rank) {
    if (member(rank).has_joined.load() && (rank == rank_ || !is_alive(rank))) {
      unlink();  // left behind by processes that ended while they were joining
      release();
      return false;
    }
  }
  return true;
}

std::size_t ShmSegment::bytes_of(int size) {
  const auto ranks = static_cast<std::size_t>(size);
  return sizeof(Header) + ranks * (sizeof(Member) + ranks * sizeof(Lane) + kSlots * sizeof(Slot));
}

/// Maps the first `bytes` of the file, instead of what was mapped before.
void ShmSegment::map(std::size_t bytes) {
  if (header_) munmap(header_, bytes_);
  header_ = nullptr;
  bytes_ = bytes;
  void* address = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (address == MAP_FAILED) throw CommError("cannot map " + path_ + ": " + system_text(errno), -1);
  header_ = static_cast<Header*>(address);
}

void ShmSegment::wait_for_all(const JoinOptions& options, const Deadline& deadline) {
  const auto all = static_cast<std::uint32_t>(size_);
  while (!header_->joined.reached(all)) {
    header_->joined.sleep_below(all, kJoinNapMs);
    check_abort();
    std::vector<int> missing;
    for (int rank = 0; rank < size_; ++rank) {
      if (!member(rank).has_joined.load(std::memory_order_acquire)) {
        missing.push_back(rank);
      } else if (!is_alive(rank) && !header_->joined.reached(all)) {
        const std::string reason = "rank " + std::to_string(rank) + " ended while the group was forming";
        abort(rank, reason);
        throw CommError(reason, rank);
      }
    }
    if (missing.empty()) continue;
    if (options.is_cancelled->load()) {
      abort(rank_, "rank " + std::to_string(rank_) + " gave up joining");
      check_abort();
    }
    if (deadline.expired()) {
      const std::string reason = names_of(missing, options) + " did not join the group within " + milliseconds(options.timeout_ms);
      abort(missing.front(), reason);
      throw CommError(reason, missing.front());
    }
  }
}

ShmSegment::Member& ShmSegment::member(int rank) const {
  return reinterpret_cast<Member*>(header_ + 1)[rank];
}

ShmSegment::Slot& ShmSegment::slot(int rank, std::uint32_t sequence) const {
  auto* slots = reinterpret_cast<Slot*>(&lane(size_, 0));
  return slots[static_cast<std::size_t>(rank) * kSlots + sequence % kSlots];
}

ShmSegment::Lane& ShmSegment::lane(int from, int to) const {
  auto* lanes = reinterpret_cast<Lane*>(reinterpret_cast<Member*>(header_ + 1) + size_);
  return lanes[static_cast<std::size_t>(from) * static_cast<std::size_t>(size_) + static_cast<std::size_t>(to)];
}

bool ShmSegment::try_lock(int rank) const {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return fcntl(file_, F_OFD_SETLK, &lock) == 0;
}

bool ShmSegment::is_alive(int rank) const {
  if (rank == rank_) return true;  // a lock never stands in the way of its holder
  if (member(rank).has_left.load(std::memory_order_acquire)) return false;
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return fcntl(file_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void ShmSegment::abort(int rank, const std::string& reason) noexcept {
  std::uint32_t none = 0;
  if (header_->abort_state.compare_exchange_strong(none, 1)) {
    header_->abort_rank = rank;
    const std::size_t length = std::min(reason.size(), kReasonBytes - 1);
    std::memcpy(header_->abort_reason, reason.data(), length);
    header_->abort_reason[length] = '\0';
    header_->abort_state.store(2, std::memory_order_seq_cst);
  }
  header_->joined.wake_all();
  for (int peer = 0; peer < size_; ++peer) {
    member(peer).posted.wake_all();
    member(peer).reduced.wake_all();
    member(peer).consumed.wake_all();
    member(peer).bell.wake_all();
  }
}

void ShmSegment::check_abort() const {
  if (header_->abort_state.load(std::memory_order_acquire) != 2) return;
  throw CommError(std::string(header_->abort_reason, strnlen(header_->abort_reason, kReasonBytes)), header_->abort_rank);
}

void ShmSegment::unlink() noexcept {
  // By inode: the name may belong to a newer group by now.
  struct stat ours, named;
  if (file_ >= 0 && fstat(file_, &ours) == 0 && stat(path_.c_str(), &named) == 0 && ours.st_dev == named.st_dev &&
      ours.st_ino == named.st_ino) {
    ::unlink(path_.c_str());
  }
}

void ShmSegment::release() noexcept {
  if (header_) munmap(header_, bytes_);
  header_ = nullptr;
  if (file_ >= 0) ::close(file_);
  file_ = -1;
}

}  // namespace raylite

// Linux's own asynchronous I/O by its system calls, as libaio makes them: unlike io_uring it is allowed in containers. Where the
// kernel has none, blocks are read and written one after the other by each thread.
#include "io/swap_file.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace raylite {

namespace {

int open_unseen(const std::string& folder) {
  int fd = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  std::string path = folder + "/raylite-offload-XXXXXX";
  fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd >= 0) unlink(path.c_str());
  return fd;
}

std::string at_byte(std::uint64_t offset) { return " at byte " + std::to_string(offset); }

}  // namespace

/// Bytes [offset, offset + bytes) of the file to or from `memory`.
struct SwapFile::Transfer {
  bool is_write;
  std::uint64_t offset;
  std::uint8_t* memory;
  std::uint64_t bytes;
};

/// The requests of one thread.
class SwapFile::Lane {
 public:
  explicit Lane(std::uint32_t depth) : requests_(depth), events_(depth) {
    if (syscall(SYS_io_setup, depth, &context_) != 0) context_ = 0;
    for (std::uint32_t i = 0; i < depth; i++) free_.push_back(depth - 1 - i);
    ready_.reserve(depth);
  }
  ~Lane() {
    if (context_ != 0) syscall(SYS_io_destroy, context_);
  }

  bool is_asynchronous() const { return context_ != 0; }

  /// Returns when nothing is under way any more, also after a failure.
  void run(const SwapFile& file, const Transfer& all, std::uint64_t begin, std::uint64_t end) {
    const SwapOptions& options = file.options_;
    std::uint64_t next = begin;
    std::size_t under_way = 0;
    std::string failure;
    int error = 0;
    while ((next < end && failure.empty()) || !ready_.empty() || under_way > 0) {
      while (next < end && failure.empty() && !free_.empty()) {
        const std::uint64_t bytes = std::min(options.block_bytes, end - next);
        prepare(file.direct_ >= 0 ? file.direct_ : file.buffered_, all, next, bytes);
        next += bytes;
      }
      if (!ready_.empty()) {
        const long count = options.single_submit ? 1 : static_cast<long>(ready_.size());
        const long taken = syscall(SYS_io_submit, context_, count, ready_.data());
        if (taken > 0) {
          under_way += static_cast<std::size_t>(taken);
          ready_.erase(ready_.begin(), ready_.begin() + taken);
        } else if (taken < 0 && errno != EAGAIN && errno != EINTR) {
          error = errno, failure = all.is_write ? "cannot be written" : "cannot be read";
          for (iocb* request : ready_) free_.push_back(static_cast<std::uint32_t>(request->aio_data));
          ready_.clear();
        }
        if (options.single_submit && !ready_.empty() && taken > 0) continue;
      }
      if (under_way == 0) continue;
      const long least = options.overlap_events ? 1 : static_cast<long>(under_way);
      const long done = syscall(SYS_io_getevents, context_, least, static_cast<long>(events_.size()), events_.data(), nullptr);
      for (long i = 0; i < done; i++) {
        const auto index = static_cast<std::uint32_t>(events_[static_cast<std::size_t>(i)].data);
        const iocb& request = requests_[index];
        const auto result = static_cast<std::int64_t>(events_[static_cast<std::size_t>(i)].res);
        const auto wanted = static_cast<std::int64_t>(request.aio_nbytes);
        if (result != wanted && failure.empty()) {
          const std::string verb = all.is_write ? "cannot be written" : "cannot be read";
          const auto offset = static_cast<std::uint64_t>(request.aio_offset) + static_cast<std::uint64_t>(std::max<std::int64_t>(result, 0));
          failure = verb + at_byte(offset);
          error = result < 0 ? static_cast<int>(-result) : 0;
        }
        free_.push_back(index);
        under_way--;
      }
    }
    if (!failure.empty()) file.fail(failure, error);
  }

 private:
  void prepare(int fd, const Transfer& all, std::uint64_t at, std::uint64_t bytes) {
    const std::uint32_t index = free_.back();
    free_.pop_back();
    iocb& request = requests_[index];
    std::memset(&request, 0, sizeof(request));
    request.aio_data = index;
    request.aio_lio_opcode = all.is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    request.aio_fildes = static_cast<std::uint32_t>(fd);
    request.aio_buf = reinterpret_cast<std::uintptr_t>(all.memory + (at - all.offset));
    request.aio_nbytes = bytes;
    request.aio_offset = static_cast<std::int64_t>(at);
    ready_.push_back(&request);
  }

  aio_context_t context_ = 0;
  std::vector<iocb> requests_;
  std::vector<io_event> events_;
  std::vector<std::uint32_t> free_;
  std::vector<iocb*> ready_;
};

SwapFile::SwapFile(const SwapOptions& options) : options_(options) {
  buffered_ = open_unseen(options.folder);
  if (buffered_ < 0) fail("cannot be made", errno);
  // The space now: a full disk in the midst of a step would end the job.
  int error = 0;
  if (fallocate(buffered_, 0, 0, static_cast<off_t>(options.bytes)) != 0) error = errno;
  if (error == EOPNOTSUPP || error == ENOSYS) error = ftruncate(buffered_, static_cast<off_t>(options.bytes)) != 0 ? errno : 0;
  if (error != 0) {
    struct statvfs space {};
    const std::string free = fstatvfs(buffered_, &space) == 0 ? std::to_string(space.f_bavail * space.f_frsize) : "?";
    close(buffered_);
    fail("needs " + std::to_string(options.bytes) + " bytes, " + free + " are free", error);
  }
  direct_ = open(("/proc/self/fd/" + std::to_string(buffered_)).c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  for (std::uint32_t lane = 0; lane < options.threads; lane++) lanes_.push_back(std::make_unique<Lane>(options.queue_depth));
  for (std::uint32_t lane = 1; lane < options.threads; lane++) {
    helpers_.emplace_back([this, lane] { helper_main(lane); });
  }
}

SwapFile::~SwapFile() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
  if (direct_ >= 0) close(direct_);
  close(buffered_);
}

void SwapFile::read(std::uint64_t offset, std::uint8_t* to, std::uint64_t bytes) { transfer({false, offset, to, bytes}); }

void SwapFile::write(std::uint64_t offset, const std::uint8_t* from, std::uint64_t bytes) {
  transfer({true, offset, const_cast<std::uint8_t*>(from), bytes});
}

void SwapFile::read_any(std::uint64_t offset, std::uint8_t* to, std::uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t got = pread(buffered_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail("cannot be read" + at_byte(offset), got < 0 ? errno : 0);
    to += got, offset += static_cast<std::uint64_t>(got), bytes -= static_cast<std::uint64_t>(got);
  }
}

void SwapFile::write_any(std::uint64_t offset, const std::uint8_t* from, std::uint64_t bytes) {
  while (bytes > 0) {
    const ssize_t put = pwrite(buffered_, from, bytes, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail("cannot be written" + at_byte(offset), put < 0 ? errno : 0);
    from += put, offset += static_cast<std::uint64_t>(put), bytes -= static_cast<std::uint64_t>(put);
  }
}

void SwapFile::transfer(const Transfer& transfer) {
  const std::lock_guard<std::mutex> turn(turn_);
  if (helpers_.empty()) {
    run_lane(0, transfer);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_ = &transfer;
    generation_++;
    busy_ = static_cast<std::uint32_t>(helpers_.size());
    failure_.clear();
  }
  changed_.notify_all();
  std::string failure;
  try {
    run_lane(0, transfer);
  } catch (const EngineError& error) {
    failure = error.what();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return busy_ == 0; });
  if (failure.empty()) failure = failure_;
  if (!failure.empty()) throw EngineError("ENGINE", failure);
}

/// The lane's share, in whole blocks.
void SwapFile::run_lane(std::uint32_t lane, const Transfer& transfer) {
  const std::uint64_t blocks = (transfer.bytes + options_.block_bytes - 1) / options_.block_bytes;
  const auto border = [&](std::uint64_t index) {
    return transfer.offset + std::min(transfer.bytes, blocks * index / lanes_.size() * options_.block_bytes);
  };
  const std::uint64_t begin = border(lane);
  const std::uint64_t end = border(lane + 1);
  if (lanes_[lane]->is_asynchronous()) {
    lanes_[lane]->run(*this, transfer, begin, end);
  } else if (transfer.is_write) {
    write_any(begin, transfer.memory + (begin - transfer.offset), end - begin);
  } else {
    read_any(begin, transfer.memory + (begin - transfer.offset), end - begin);
  }
}

void SwapFile::helper_main(std::uint32_t lane) {
  std::uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    const Transfer* transfer = current_;
    lock.unlock();
    std::string failure;
    try {
      run_lane(lane, *transfer);
    } catch (const EngineError& error) {
      failure = error.what();
    }
    lock.lock();
    if (!failure.empty()) failure_ = failure;
    if (--busy_ == 0) changed_.notify_all();
  }
}

void SwapFile::fail(const std::string& what, int error) const {
  throw EngineError("ENGINE", "the offload file in " + options_.folder + " " + what + ": " +
                                  (error == 0 ? "it ends there" : std::strerror(error)));
}

}  // namespace raylite

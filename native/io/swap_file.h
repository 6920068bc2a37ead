// A file that holds what does not fit in memory: never seen under a name, of a fixed size, read and written past the page cache
// by requests that are under way together. Its space is set aside when it is made.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace raylite {

struct SwapOptions {
  std::string folder;
  std::uint64_t bytes = 0;
  std::uint64_t block_bytes = 1 << 20;  // of one request; a multiple of kAligned
  std::uint32_t queue_depth = 8;        // requests under way at once, of each thread
  std::uint32_t threads = 1;            // that share one transfer
  bool single_submit = false;           // hand over requests one by one
  bool overlap_events = true;           // follow up each request that is done; false: wait for all of a queue
};

class SwapFile {
 public:
  /// Offsets, lengths and addresses of transfers are multiples of this.
  static constexpr std::uint64_t kAligned = 4096;

  /// Throws EngineError("ENGINE") naming the folder: not there, not writable, full.
  explicit SwapFile(const SwapOptions& options);
  /// The file is gone with it, as it is with the process.
  ~SwapFile();
  SwapFile(const SwapFile&) = delete;
  SwapFile& operator=(const SwapFile&) = delete;

  /// Blocks until all bytes are there. One transfer at a time; others wait. Throws EngineError("ENGINE") naming the folder,
  /// the byte and the system's reason.
  void read(std::uint64_t offset, std::uint8_t* to, std::uint64_t bytes);
  void write(std::uint64_t offset, const std::uint8_t* from, std::uint64_t bytes);
  /// The same for any offset, length and address, through the page cache.
  void read_any(std::uint64_t offset, std::uint8_t* to, std::uint64_t bytes);
  void write_any(std::uint64_t offset, const std::uint8_t* from, std::uint64_t bytes);

  std::uint64_t bytes() const { return options_.bytes; }
  /// Whether transfers go past the page cache: not every file system can.
  bool is_direct() const { return direct_ >= 0; }

 private:
  struct Transfer;
  class Lane;
  void transfer(const Transfer& transfer);
  void run_lane(std::uint32_t lane, const Transfer& transfer);
  void helper_main(std::uint32_t lane);
  [[noreturn]] void fail(const std::string& what, int error) const;

  const SwapOptions options_;
  int buffered_ = -1;
  int direct_ = -1;
  std::vector<std::unique_ptr<Lane>> lanes_;

  std::mutex turn_;  // held during a transfer
  std::mutex mutex_;
  std::condition_variable changed_;
  const Transfer* current_ = nullptr;
  std::uint64_t generation_ = 0;
  std::uint32_t busy_ = 0;
  bool stopping_ = false;
  std::string failure_;
  std::vector<std::thread> helpers_;
};

}  // namespace raylite

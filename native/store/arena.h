// One file of shared memory, mapped twice: MAP_SHARED for those who write, MAP_PRIVATE for those who read. A stray write
// to a read view copies its page for this process alone. Memory that cannot be had is an error here, never a SIGBUS
// later: every byte is backed before anybody gets its address.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "store/pins.h"

namespace raylite {

/// The arena cannot do what was asked; the message names the path or the region, and the cause.
class StoreError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Arena {
 public:
  /// Makes the file (0600; must not exist).
  static std::shared_ptr<Arena> create(const std::string& path, std::size_t bytes);
  /// Maps an arena that another process of the same user made.
  static std::shared_ptr<Arena> open(const std::string& path, std::size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::size_t bytes() const { return bytes_; }
  /// Addresses of [offset, offset + length). Throw StoreError when the region is not inside the arena or has no memory.
  char* writable(std::size_t offset, std::size_t length);
  /// @param is_written somebody has written all of it: that it has memory need not be asked, block by block
  char* readable(std::size_t offset, std::size_t length, bool is_written = false);
  /// As readable, but what the other processes see even where this one wrote to its private view.
  const char* shared(std::size_t offset, std::size_t length);
  /// Drops the private copies of all pages that the region touches: they show what is shared again.
  void forget(std::size_t offset, std::size_t length);
  /// The entry of the object that begins at `offset`.
  PinEntry& pins(std::size_t offset);
  /// Has a thread of low priority ask for the memory of the first `bytes`, so that whoever writes there first does not wait
  /// for it. A later call with more goes on from there; does not wait.
  void prefault(std::size_t bytes);
  /// Removes the name; mappings stay. Repeating it, or losing the race to do it, is no error.
  void unlink() noexcept;
  /// Ends the thread and, in the process that created it, unlinks. The memory goes with the last owner of the Arena.
  void close() noexcept;

 private:
  Arena(std::string path, int file, std::size_t bytes, bool is_creator);
  void map();
  void check(std::size_t offset, std::size_t length) const;
  enum class Need : std::uint8_t { kBacked = 1, kMapped = 2 };
  void ensure(std::size_t offset, std::size_t length, Need need);
  void prefault_loop() noexcept;

  std::string path_;
  int file_ = -1;
  std::size_t bytes_;
  std::size_t pins_at_;  // the table of pins lies behind the objects
  std::size_t mapped_bytes_;
  bool is_creator_;
  char* shared_ = nullptr;
  char* private_ = nullptr;
  std::unique_ptr<std::atomic<std::uint8_t>[]> blocks_;  // what this process knows to be there, per kBlockBytes
  std::thread prefaulter_;
  std::mutex prefault_mutex_;
  std::condition_variable prefault_changed_;
  std::size_t prefault_goal_ = 0;
  bool is_closing_ = false;
};

}  // namespace raylite

// What the files of the emulated runtime share: streams and what is on them, the memory of a device.
#pragma once
#include <sys/mman.h>

#include <condition_variable>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace raylite::emulate {

constexpr int kDevices = 4;

/// One entry of a queue.
struct Work {
  enum class Kind { kRun, kRecord, kWait } kind;
  std::function<void()> run;
  std::shared_ptr<Event> event;
  std::uint64_t number = 0;  // of the record that is made or waited for
  bool waits_for_peers = false;
};

class Event : public std::enable_shared_from_this<Event> {
 public:
  std::uint64_t recorded = 0, done = 0;
  double at_ms = 0;
  Graph* capture = nullptr;      // that it was last recorded in
  std::uint64_t capture_number = 0;
};

class Stream {
 public:
  int device = 0;
  std::deque<Work> queue;
  Graph* capture = nullptr;
  bool is_busy = false;  // a thread runs what was its first entry

  bool is_through() const { return queue.empty() && !is_busy; }
};

class Graph {
 public:
  Stream* origin = nullptr;
  std::map<Stream*, std::vector<Work>> queues;
  std::uint64_t records = 0;
};

struct Allocation {
  std::size_t bytes;      // mapped
  int file = -1;          // that other processes open it by, once it was shared
  int opened = 0;         // of another process: how often it was opened here
  std::string key = {};   // of another process: its handle
};

struct Device {
  std::recursive_mutex mutex;
  std::condition_variable_any changed;  // an entry has been run
  std::set<Stream*> streams;
  std::map<void*, Allocation> allocations;
  std::uint64_t random = 0x9e3779b97f4a7c15u;
  int draining = 0;
  int busy = 0;  // streams

  std::size_t draw(std::size_t below) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return static_cast<std::size_t>(random % below);
  }
  void protect(int protection) {
    for (const auto& [memory, allocation] : allocations) mprotect(memory, allocation.bytes, protection);
  }
};

extern Device devices[kDevices];
/// The calling thread's.
extern thread_local int current;

/// What is added to the clock that events take their times from.
extern std::atomic<std::int64_t> skew_us;

/// Makes a device's memory one that can be touched.
class Touching {
 public:
  explicit Touching(Device& device) : device_(device) {
    const std::lock_guard<std::recursive_mutex> lock(device_.mutex);
    if (device_.draining++ == 0) device_.protect(PROT_READ | PROT_WRITE);
  }
  ~Touching() {
    const std::lock_guard<std::recursive_mutex> lock(device_.mutex);
    if (--device_.draining == 0) device_.protect(PROT_NONE);
  }
  Touching(const Touching&) = delete;
  Touching& operator=(const Touching&) = delete;

 private:
  Device& device_;
};

/// The number of a device in its machine, whose pairs 0 and 1, 2 and 3 can reach each other's memory.
int number_of(int device);

/// Appends a line to the file that RAYLITE_EMULATED_COPIES names: how bytes went ("host": to or from it, "device", "nccl": sent), and how many.
void note_copy(const char* way, std::size_t bytes);

/// Runs one entry of one stream that can go on, without the lock meanwhile: other threads may run those of other streams, as a GPU does.
/// False when there is none.
bool step(Device& device, std::unique_lock<std::recursive_mutex>& lock);

/// Runs entries until `done()`. Meanwhile, and only then, the device's memory can be touched. The caller does not hold its lock.
template <class Done>
void drain(Device& device, Done done) {
  const Touching touching(device);
  std::unique_lock<std::recursive_mutex> lock(device.mutex);
  while (!done()) {
    if (step(device, lock)) continue;
    if (device.busy == 0) stop("streams wait for events that nothing records");
    device.changed.wait(lock);
  }
}

}  // namespace raylite::emulate

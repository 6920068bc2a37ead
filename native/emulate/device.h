// What the files of the emulated runtime share: streams and what is on them, the memory of a device.
#pragma once
#include <sys/mman.h>

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
  std::set<Stream*> streams;
  std::map<void*, Allocation> allocations;
  std::uint64_t random = 0x9e3779b97f4a7c15u;
  int draining = 0;

  std::size_t draw(std::size_t below) {
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

/// Runs one entry of one stream that can go on. False when there is none.
bool step(Device& device);

/// Runs entries until `done()`. Meanwhile, and only then, the device's memory can be touched.
template <class Done>
void drain(Device& device, Done done) {
  const std::lock_guard<std::recursive_mutex> lock(device.mutex);
  if (device.draining++ == 0) device.protect(PROT_READ | PROT_WRITE);
  while (!done()) {
    if (!step(device)) stop("streams wait for events that nothing records");
  }
  if (--device.draining == 0) device.protect(PROT_NONE);
}

}  // namespace raylite::emulate

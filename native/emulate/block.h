// One block of threads, each a fiber: runs until it reaches a barrier, then the next one does.
#pragma once
#include <cstddef>
#include <functional>

namespace raylite::emulate {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

/// Where a fiber is.
struct Here {
  Index thread, block, block_dim, grid_dim;
  unsigned char* dynamic_shared = nullptr;
};

class Stream;
class Event;
class Graph;

Here& here();

/// Waits until all threads of the block that have not ended are there.
void sync_block();
/// The same for the 32 threads of a warp.
void sync_warp();
/// Gives `bytes` (at most 64) to the warp, returns what lane `lane` gave.
const void* exchange(const void* value, std::size_t bytes, int lane);
/// The same, and returns what all lanes gave: 32 places of 64 bytes.
const unsigned char* exchange_all(const void* value, std::size_t bytes);

/// Runs `thread` once for each thread of each block, block by block.
void run_grid(Index grid, Index block, std::size_t shared_bytes, const std::function<void()>& thread);

/// Ends the process: the kernel did what a GPU does not define (a barrier that not all threads reach).
[[noreturn]] void stop(const char* what);

}  // namespace raylite::emulate

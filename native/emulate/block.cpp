// Fibers by hand: a switch saves the registers that a call keeps and changes the stack.
#include "emulate/block.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if !defined(__x86_64__)
#error "the emulation of CUDA switches stacks on x86-64 alone"
#endif

namespace raylite::emulate {

namespace {

constexpr std::size_t kStackBytes = 128 << 10;
constexpr int kThreadsMax = 1024;
constexpr int kWarp = 32;
constexpr std::size_t kSlotBytes = 64;

/// Pushes what a call must keep, stores the stack pointer in *from, goes on where `to` was saved.
__attribute__((naked, noinline)) void switch_stack(void** /*from*/, void* /*to*/) {
  asm("pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15;"
      "movq %rsp, (%rdi); movq %rsi, %rsp;"
      "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
}

/// A barrier that a fiber waits at until its generation is over.
struct Gate {
  unsigned generation = 0;
  int arrived = 0;
  int members = 0;  // that have not ended

  void open_if_full() {
    if (members > 0 && arrived >= members) {
      generation++;
      arrived = 0;
    }
  }
};

struct Fiber {
  void* stack = nullptr;  // its lowest byte
  void* saved = nullptr;
  bool has_begun = false, has_ended = false;
  const Gate* gate = nullptr;  // where it waits, until the generation below is over
  unsigned generation = 0;
  bool ready() const { return !has_ended && (gate == nullptr || gate->generation != generation); }
};

struct Warp {
  Gate gate;
  int parity[kWarp] = {};
  alignas(64) unsigned char slots[2][kWarp][kSlotBytes];
};

/// All of one OS thread: it runs one block at a time.
struct Block {
  Fiber fibers[kThreadsMax];
  Gate gate;
  Warp warps[kThreadsMax / kWarp];
  void* scheduler = nullptr;
  int current = 0;
  const std::function<void()>* body = nullptr;
  Here here;
  std::vector<unsigned char> shared;

  ~Block() {
    for (Fiber& fiber : fibers) {
      if (fiber.stack != nullptr) munmap(fiber.stack, kStackBytes);
    }
  }
};

thread_local Block* the_block = nullptr;

Block& block() {
  if (the_block == nullptr) {
    static thread_local Block storage;
    the_block = &storage;
  }
  return *the_block;
}

void yield(Block& at) { switch_stack(&at.fibers[at.current].saved, at.scheduler); }

void wait(Block& at, Gate& gate) {
  Fiber& fiber = at.fibers[at.current];
  fiber.gate = &gate;
  fiber.generation = gate.generation;
  gate.arrived++;
  gate.open_if_full();
  if (!fiber.ready()) yield(at);
  fiber.gate = nullptr;
}

void fiber_main() {
  Block& at = block();
  (*at.body)();
  at.fibers[at.current].has_ended = true;
  yield(at);
  stop("a fiber went on after its end");
}

void begin(Block& at, int thread) {
  Fiber& fiber = at.fibers[thread];
  if (fiber.stack == nullptr) {
    fiber.stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber.stack == MAP_FAILED) stop("no memory for a stack");
  }
  auto* top = reinterpret_cast<void**>(static_cast<char*>(fiber.stack) + kStackBytes);
  *--top = nullptr;                                   // keeps the alignment of a call
  *--top = reinterpret_cast<void*>(&fiber_main);      // where `ret` goes
  for (int i = 0; i < 6; i++) *--top = nullptr;       // the registers
  fiber.saved = top;
  fiber.has_begun = true;
}

void run_block(Block& at, int threads) {
  for (int i = 0; i < threads; i++) {
    Fiber& fiber = at.fibers[i];
    fiber.has_begun = fiber.has_ended = false;
    fiber.gate = nullptr;
  }
  at.gate.members = threads;
  at.gate.arrived = 0;
  for (int w = 0; w * kWarp < threads; w++) {
    Gate& gate = at.warps[w].gate;
    gate.members = threads - w * kWarp < kWarp ? threads - w * kWarp : kWarp;
    gate.arrived = 0;
    for (int& parity : at.warps[w].parity) parity = 0;
  }
  const Index dim = at.here.block_dim;
  int left = threads;
  while (left > 0) {
    bool moved = false;
    for (int i = 0; i < threads; i++) {
      Fiber& fiber = at.fibers[i];
      if (!fiber.ready()) continue;
      moved = true;
      at.current = i;
      const auto n = static_cast<unsigned>(i);
      at.here.thread = {n % dim.x, n / dim.x % dim.y, n / dim.x / dim.y};
      if (!fiber.has_begun) begin(at, i);
      switch_stack(&at.scheduler, fiber.saved);
      if (!fiber.has_ended) continue;
      left--;
      // Who has ended is not waited for.
      Gate& warp = at.warps[i / kWarp].gate;
      at.gate.members--;
      warp.members--;
      at.gate.open_if_full();
      warp.open_if_full();
    }
    if (!moved) stop("threads of a block wait for each other at different barriers");
  }
}

}  // namespace

Here& here() { return block().here; }

void sync_block() {
  Block& at = block();
  wait(at, at.gate);
}

void sync_warp() {
  Block& at = block();
  wait(at, at.warps[at.current / kWarp].gate);
}

const unsigned char* exchange_all(const void* value, std::size_t bytes) {
  Block& at = block();
  const int lane = at.current % kWarp;
  Warp& warp = at.warps[at.current / kWarp];
  if (bytes > kSlotBytes) stop("an exchange of more than 64 bytes");
  // Two sets of places: a lane may be one exchange ahead of the slowest.
  auto& slots = warp.slots[warp.parity[lane]];
  warp.parity[lane] ^= 1;
  std::memcpy(slots[lane], value, bytes);
  wait(at, warp.gate);
  return slots[0];
}

const void* exchange(const void* value, std::size_t bytes, int lane) {
  return exchange_all(value, bytes) + static_cast<std::size_t>(lane) * kSlotBytes;
}

void run_grid(Index grid, Index dim, std::size_t shared_bytes, const std::function<void()>& thread) {
  Block& at = block();
  const unsigned threads = dim.x * dim.y * dim.z;
  if (threads == 0 || threads > kThreadsMax) stop("a block has 1 to 1024 threads");
  at.body = &thread;
  at.shared.assign(shared_bytes + 64, 0xff);  // NaN, where a kernel reads what it did not write
  auto base = reinterpret_cast<std::uintptr_t>(at.shared.data());
  at.here.dynamic_shared = reinterpret_cast<unsigned char*>((base + 63) / 64 * 64);
  at.here.block_dim = dim;
  at.here.grid_dim = grid;
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) {
        at.here.block = {x, y, z};
        run_block(at, static_cast<int>(threads));
      }
    }
  }
}

void stop(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what);
  std::abort();
}

}  // namespace raylite::emulate

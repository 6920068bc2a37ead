// What the addon and libraylite_cuda.so say to each other: plain data, and functions that never throw. The library is built
// where nvcc is and opened at run time where a driver is, so that the addon needs nothing of CUDA. Kernels and programs are
// the structs of core: both sides must be of one build, which the stamp says.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/kernels.h"
#include "core/ops/attention.h"
#include "core/ops/collectives.h"
#include "core/program.h"

namespace raylite {

constexpr std::uint32_t kCudaApiVersion = 5;

/// Changes with the layout of what both sides read.
constexpr std::uint32_t cuda_api_stamp() {
  return kCudaApiVersion << 24 | static_cast<std::uint32_t>(sizeof(Kernels) + 31 * sizeof(Program) + 7 * sizeof(Instruction));
}

struct CudaFailure {
  char code[16];  // of EngineError, or COMM
  int rank;       // of COMM, or -1
  char message[2000];
};

/// Who makes attention where NVIDIA's library takes it: whichever is measured to be faster, or always the same.
enum class AttentionBy : int { kMeasured, kOwn, kLibrary };

/// What is opened when it is first needed: paths, null where nothing was found.
struct CudaLibraries {
  const char* cublas_lt;
  const char* nccl;
  const char* cudnn;
  const char* cudart;          // of cuDNN, as the next two
  const char* nvrtc;
  const char* nvrtc_builtins;
  AttentionBy attention;
};

/// Attention of `segments` sequences of `rows` rows each, as a library plans it. Tensors are laid out as in core/ops/attention.h.
struct CudaAttentionShape {
  DType type;
  bool is_backward;
  std::int64_t segments, rows, heads, kv_heads, head_dim;
  HeadLayout q, k, v;
  bool causal;
  std::int64_t window;
  float scale;
};

struct CudaDescription {
  char name[256];
  std::uint64_t memory_bytes;
  int major, minor, processors;
};

/// Host memory that a run copies to the device before its first instruction, and back behind its last one.
struct CudaMirror {
  void* host;
  void* device;
  std::size_t bytes;
};

struct CudaRun {
  const CudaMirror* mirrors;
  std::size_t mirror_count;
  Finding* finding;  // null: nobody looks for numbers that are not finite
  std::uint32_t jitter;
  double* seconds;  // of each instruction; null: not wanted
};

/// By which other processes of the machine find memory of a device. Plain bytes: sent as they are.
struct CudaMemoryHandle {
  char bytes[64];
};

/// What ranks must know of each other before NCCL joins their devices. Plain bytes: sent as they are.
struct CudaIdentity {
  std::int32_t nccl_version;  // 22809; 0: none, for this reason
  char reason[1000];
  char bus[32];  // of the device in its machine
};

/// Names a group that NCCL is about to form.
struct CudaGroupId {
  char bytes[128];
};

/// A group whose collectives the device shall make itself.
struct CudaGroup {
  std::shared_ptr<Communicator> ranks;  // the same ranks over the host
  CudaGroupId id;
  double timeout_ms;  // that a rank waits in one collective
  /// Whether the ranks are whole: asked from any thread. Does not throw.
  bool (*is_whole)(Communicator&, CollectiveFailure&);
  /// Tells the others how many collectives the stream has begun, and which it is in (empty: none). Does not throw.
  void (*stands_at)(Communicator&, std::uint32_t calls, const std::string& place);
  /// Whether it can be said who lets this rank wait: filled in, for a wait of so many milliseconds. Does not throw.
  bool (*is_late)(Communicator&, double ms, CollectiveFailure&);
};

/// Bytes of the device on their way to a rank of a group that it has joined, or from it.
struct CudaMessage {
  const Communicator* ranks;
  void* data;
  std::size_t bytes;
  int peer;
  bool is_sent;
};
enum class CudaPassed { kFailed, kDone, kNotJoined };

/// Functions that return a bool or a pointer give false or null for a failure, and fill it in.
struct CudaApi {
  std::uint32_t stamp;
  /// How many devices there are; 0 with the reason.
  int (*device_count)(CudaFailure*);
  bool (*describe)(int index, CudaDescription*, CudaFailure*);
  const Kernels& (*kernels)();
  void* (*open)(int index, const CudaLibraries*, CudaFailure*);
  void (*close)(void* device);
  void* (*allocate)(void* device, std::size_t bytes, CudaFailure*);
  void (*free)(void* device, void* memory);
  void* (*allocate_host)(void* device, std::size_t bytes, CudaFailure*);
  void (*free_host)(void* device, void* memory);
  /// Waits for its end.
  bool (*copy)(void* device, void* to, const void* from, std::size_t bytes, CudaFailure*);
  /// Of memory that allocate() gave.
  bool (*share)(void* device, void* memory, CudaMemoryHandle*, CudaFailure*);
  /// Memory that another process shares, which must keep it until unmap(); not of this process itself.
  void* (*map)(void* device, const CudaMemoryHandle*, CudaFailure*);
  void (*unmap)(void* device, void* memory);
  /// Never fails.
  void (*identify)(void* device, CudaIdentity*);
  bool (*group_id)(void* device, CudaGroupId*, CudaFailure*);
  /// Waits for all ranks. Programs prepared from then on make the collectives of `ranks` on the device.
  bool (*join)(void* device, const CudaGroup*, CudaFailure*);
  /// Waits until the message has left or arrived; beside runs.
  CudaPassed (*pass)(void* device, const CudaMessage*, CudaFailure*);
  /// What the device keeps of a program, for run(); the program must outlive it.
  void* (*prepare)(void* device, const Program*, CudaFailure*);
  void (*forget)(void* prepared);
  /// Waits for its end.
  bool (*run)(void* prepared, const CudaRun*, CudaFailure*);
  /// What the device has chosen between where there was a choice: calls `take` with a line for each. From any thread.
  void (*choices)(void* device, void (*take)(void* to, const char* line), void* to);
  /// Bytes of workspace that cuDNN plans attention with, on a GPU of these properties that need not be here (JSON of its frontend).
  bool (*plan_attention)(const CudaLibraries*, const char* properties, const CudaAttentionShape*, std::uint64_t* workspace, CudaFailure*);
};

}  // namespace raylite

extern "C" const raylite::CudaApi* raylite_cuda_api();

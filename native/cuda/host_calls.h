// Collectives of a group that knows nothing of GPUs (shared memory, TCP): the stream copies to the host, a function of the
// host makes the call, the stream copies back. Nothing waits but the stream, and a captured graph holds it all.
#pragma once
#include <map>
#include <memory>
#include <mutex>

#include "core/ops/collectives.h"
#include "cuda/group_failure.h"
#include "cuda/handles.h"
#include "cuda/queue.h"

namespace raylite::cuda {

/// The calls of one program.
class HostCalls {
 public:
  /// Puts the call on the queue.
  void put(const CollectiveArguments& a, const Queue& queue);

  /// Before and after a run: the first failure of its calls.
  void begin();
  void throw_failure();

 private:
  struct Call {
    HostCalls* owner;
    const CollectiveArguments* arguments;
    std::unique_ptr<PinnedBytes> stage;
    void* in;   // where the call's bytes are in the stage
    void* out;
  };
  std::unique_ptr<Call> stage(const CollectiveArguments& a);
  static void make(void* call);

  std::map<const CollectiveArguments*, std::unique_ptr<Call>> calls_;
  std::mutex mutex_;  // for the two below
  bool has_failed_ = false;
  CollectiveFailure failure_;
};

}  // namespace raylite::cuda

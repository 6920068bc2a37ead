// NCCL's calls over a group in shared memory. The file that the library is opened by stands for libnccl.so.2 too.
#include "nccl.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "comm/shm_communicator.h"
#include "emulate/device.h"

#define RL_EXPORT extern "C" __attribute__((visibility("default")))

using raylite::CommError;
using raylite::Communicator;

namespace {

constexpr double kNever = 1e12;

/// What outlives ncclCommAbort: calls on streams hold it.
struct State {
  std::thread joining;
  std::mutex mutex;
  std::condition_variable changed;
  std::unique_ptr<raylite::ShmCommunicator> ranks;
  ncclResult_t error = ncclInProgress;
  std::atomic<bool> is_cancelled{false};
  bool is_aborted = false;

  ~State() {
    if (joining.joinable()) joining.join();
  }
  void set(ncclResult_t result) {
    const std::lock_guard<std::mutex> lock(mutex);
    error = result;
  }
  void wait_for_abort() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [this] { return is_aborted; });
  }
  /// A kernel: does what it can, else waits to be ended.
  template <class Call>
  void run(Call call) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (is_aborted) return;
    }
    try {
      call(*ranks);
    } catch (const CommError&) {
      set(ncclRemoteError);
      wait_for_abort();
    }
  }
};

struct PointToPoint {
  std::shared_ptr<State> state;
  cudaStream_t stream;
  bool is_send;
  void* data;
  std::size_t bytes;
  int peer;
};

thread_local int depth = 0;
thread_local std::vector<PointToPoint> pending;

void move(void* to, const void* from, std::size_t bytes) {
  if (to != from) std::memmove(to, from, bytes);
}

raylite::Number number_of(ncclDataType_t type) {
  return type == ncclFloat32 ? raylite::Number::kF32 : type == ncclBfloat16 ? raylite::Number::kBF16 : raylite::Number::kF16;
}

/// Of one group: in every round each rank sends to the one so many places on, and receives from the one so many before it.
void exchange(Communicator& ranks, const std::vector<PointToPoint>& calls) {
  const int size = ranks.size(), rank = ranks.rank();
  for (int distance = 0; distance < size; distance++) {
    const int to = (rank + distance) % size, from = (rank - distance + size) % size;
    std::vector<const PointToPoint*> sends, receives;
    for (const PointToPoint& call : calls) {
      if (call.is_send && call.peer == to) sends.push_back(&call);
      if (!call.is_send && call.peer == from) receives.push_back(&call);
    }
    for (std::size_t i = 0; i < std::max(sends.size(), receives.size()); i++) {
      const PointToPoint* send = i < sends.size() ? sends[i] : nullptr;
      const PointToPoint* receive = i < receives.size() ? receives[i] : nullptr;
      if (distance == 0) {
        std::memcpy(receive->data, send->data, send->bytes);
        continue;
      }
      raylite::Transfer transfer;
      if (send != nullptr) transfer.send = send->data, transfer.send_bytes = send->bytes, transfer.to = to;
      if (receive != nullptr) transfer.receive = receive->data, transfer.receive_bytes = receive->bytes, transfer.from = from;
      ranks.send_receive(transfer);
    }
  }
}

}  // namespace

struct ncclComm {
  std::shared_ptr<State> state;
};

namespace {

template <class Call>
ncclResult_t put(ncclComm_t comm, cudaStream_t stream, Call call) {
  if (depth > 0) return ncclInvalidUsage;  // the emulation groups sends and receives alone
  raylite::emulate::enqueue(stream, [state = comm->state, call] { state->run(call); });
  return ncclSuccess;
}

ncclResult_t end_if_outermost() {
  if (depth > 0) return ncclSuccess;
  const std::vector<PointToPoint> calls = std::exchange(pending, {});
  if (calls.empty()) return ncclSuccess;
  const PointToPoint& first = calls.front();
  const auto kernel = [state = first.state, calls] {
    for (const PointToPoint& call : calls) {
      if (call.is_send) raylite::emulate::note_copy("nccl", call.bytes);
    }
    state->run([&](Communicator& ranks) { exchange(ranks, calls); });
  };
  raylite::emulate::enqueue(first.stream, kernel, true);
  return ncclSuccess;
}

ncclResult_t point_to_point(bool is_send, void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclUint8) return ncclInvalidArgument;
  pending.push_back({comm->state, stream, is_send, data, count, peer});
  return end_if_outermost();
}

}  // namespace

RL_EXPORT ncclResult_t ncclGetVersion(int* version) { return *version = 22809, ncclSuccess; }
RL_EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  std::snprintf(id->internal, sizeof(id->internal), "raylite-emulated-nccl-%d-%08x%08x", getpid(), random(), random());
  return ncclSuccess;
}
RL_EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  auto state = std::make_shared<State>();
  *comm = new ncclComm{state};
  state->joining = std::thread([state = state.get(), size, name = std::string(id.internal), rank] {
    try {
      raylite::JoinOptions options{rank, size, {}, kNever, kNever, &state->is_cancelled};
      auto ranks = std::make_unique<raylite::ShmCommunicator>(name, options);
      const std::lock_guard<std::mutex> lock(state->mutex);
      state->ranks = std::move(ranks);
      state->error = ncclSuccess;
    } catch (const CommError&) {
      state->set(ncclRemoteError);
    }
  });
  return ncclInProgress;
}
RL_EXPORT ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }
RL_EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm) { return delete comm, ncclSuccess; }
RL_EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm) {
  State& state = *comm->state;
  state.is_cancelled.store(true);
  {
    const std::lock_guard<std::mutex> lock(state.mutex);
    if (state.ranks) state.ranks->abort("the group was given up");
    state.is_aborted = true;
  }
  state.changed.notify_all();
  delete comm;
  return ncclSuccess;
}
RL_EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const std::lock_guard<std::mutex> lock(comm->state->mutex);
  return *error = comm->state->error, ncclSuccess;
}
RL_EXPORT const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : result == ncclRemoteError ? "remote process exited or there was a network error" : "invalid use";
}
RL_EXPORT const char* ncclGetLastError(ncclComm_t) { return ""; }

RL_EXPORT ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                     cudaStream_t stream) {
  if (type == ncclUint8) return ncclInvalidArgument;
  return put(comm, stream, [=](Communicator& ranks) {
    move(to, from, count * raylite::width_of(number_of(type)));
    ranks.all_reduce(to, count, number_of(type), op == ncclSum ? raylite::ReduceOp::kSum : raylite::ReduceOp::kMax);
  });
}
RL_EXPORT ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                                         cudaStream_t stream) {
  if (type == ncclUint8 || op != ncclSum) return ncclInvalidArgument;
  return put(comm, stream, [=](Communicator& ranks) {
    // What is sent stays as it is but for this rank's slice, where it lies in place.
    const std::size_t bytes = count * raylite::width_of(number_of(type));
    std::vector<std::uint8_t> whole(static_cast<std::size_t>(ranks.size()) * bytes);
    std::memcpy(whole.data(), from, whole.size());
    ranks.reduce_scatter(whole.data(), count, number_of(type));
    std::memcpy(to, whole.data() + static_cast<std::size_t>(ranks.rank()) * bytes, bytes);
  });
}
RL_EXPORT ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclUint8) return ncclInvalidArgument;
  return put(comm, stream, [=](Communicator& ranks) {
    move(static_cast<std::uint8_t*>(to) + static_cast<std::size_t>(ranks.rank()) * count, from, count);
    ranks.all_gather(to, count);
  });
}
RL_EXPORT ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                                     cudaStream_t stream) {
  if (type != ncclUint8) return ncclInvalidArgument;
  return put(comm, stream, [=](Communicator& ranks) {
    if (ranks.rank() == root) move(to, from, count);
    ranks.broadcast(to, count, root);
  });
}
RL_EXPORT ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return point_to_point(true, const_cast<void*>(from), count, type, peer, comm, stream);
}
RL_EXPORT ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return point_to_point(false, to, count, type, peer, comm, stream);
}
RL_EXPORT ncclResult_t ncclGroupStart() { return depth++, ncclSuccess; }
RL_EXPORT ncclResult_t ncclGroupEnd() {
  depth--;
  return end_if_outermost();
}

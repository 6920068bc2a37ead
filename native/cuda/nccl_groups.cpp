// Opens NCCL once; keeps groups as long as their ranks do. And `collective`, the kernel of the collectives.
#include "cuda/nccl_groups.h"

#include <algorithm>
#include <cstring>

#include "cuda/host_calls.h"
#include "cuda/kernels.h"

namespace raylite::cuda {

const Nccl& NcclGroups::library() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!library_) library_ = std::make_unique<Nccl>("NCCL", path_.empty() ? nullptr : path_.c_str());
  return *library_;
}

int NcclGroups::version() {
  int version = 0;
  const Nccl& nccl = library();
  const ncclResult_t result = nccl.ncclGetVersion(&version);
  if (result != ncclSuccess) throw EngineError("CUDA", std::string("ncclGetVersion: ") + nccl.ncclGetErrorString(result));
  return version;
}

CudaGroupId NcclGroups::new_id() {
  const Nccl& nccl = library();
  ncclUniqueId id;
  const ncclResult_t result = nccl.ncclGetUniqueId(&id);
  if (result != ncclSuccess) throw EngineError("ENGINE", std::string("ncclGetUniqueId: ") + nccl.ncclGetErrorString(result));
  CudaGroupId made;
  std::memcpy(&made, &id, sizeof(made));
  return made;
}

void NcclGroups::join(int device, const CudaGroup& group) {
  auto joined = std::make_shared<NcclGroup>(library(), device, group);
  const std::lock_guard<std::mutex> lock(mutex_);
  groups_.erase(std::remove_if(groups_.begin(), groups_.end(), [](const auto& known) { return known->is_left(); }), groups_.end());
  groups_.push_back(std::move(joined));
}

std::shared_ptr<NcclGroup> NcclGroups::find(const Communicator& ranks) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& group : groups_) {
    if (group->is_over(ranks)) return group;
  }
  return nullptr;
}

Kernel<CollectiveArguments> collective() {
  return {[](const CollectiveArguments& a, const Team& team) {
            const Queue& queue = *team.queue;
            for (const auto& group : *queue.groups) {
              if (group->is_over(*a.group)) return group->put(a, queue);
            }
            queue.calls->put(a, queue);
          },
          nullptr};
}

}  // namespace raylite::cuda

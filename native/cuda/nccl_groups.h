// The groups that one device is in by NCCL.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/nccl_group.h"

namespace raylite::cuda {

class NcclGroups {
 public:
  /// `path` of NCCL, which is opened when it is first needed; null: it was not found.
  explicit NcclGroups(const char* path) : path_(path == nullptr ? "" : path) {}

  /// "22809" is 2.28.9. Throws EngineError("CUDA") where there is no NCCL.
  int version();
  /// For a coming group, made by one of its ranks. Throws EngineError.
  CudaGroupId new_id();
  void join(int device, const CudaGroup& group);
  /// That of the same ranks, or null.
  std::shared_ptr<NcclGroup> find(const Communicator& ranks);

 private:
  const Nccl& library();

  const std::string path_;
  std::mutex mutex_;
  std::unique_ptr<Nccl> library_;
  std::vector<std::shared_ptr<NcclGroup>> groups_;
};

}  // namespace raylite::cuda

// How the ranks of a group find out whether NCCL can join their GPUs, and get from one of them what it joins them by. They talk over the
// group that they have, which stays: it knows who has ended or stands still.
#pragma once
#include <memory>
#include <string>

#include "core/cuda_api.h"

namespace raylite {

/// As Device::join.
std::string join_cuda_group(const CudaApi& api, void* device, const std::shared_ptr<Communicator>& group, double timeout_ms);

}  // namespace raylite

// Every rank tells what it has, all draw the same conclusion, the first one names the group.
#include "core/cuda_group.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "core/machine.h"

namespace raylite {

namespace {

/// One rank as the others see it.
struct Introduction {
  CudaIdentity identity;
  char machine[64];
};

struct Naming {
  bool is_made;
  CudaGroupId id;
  char reason[1000];  // if it is not
};

std::string version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

/// Why NCCL cannot join these ranks; nothing if it can.
std::string obstacle(const std::vector<Introduction>& ranks, const Communicator& group) {
  for (std::size_t i = 0; i < ranks.size(); i++) {
    const CudaIdentity& identity = ranks[i].identity;
    const std::string name = group.rank_name(static_cast<int>(i));
    if (identity.nccl_version == 0) return name + " has no NCCL: " + identity.reason;
    if (identity.nccl_version / 100 != ranks[0].identity.nccl_version / 100) {
      return name + " has NCCL " + version_text(identity.nccl_version) + ", " + group.rank_name(0) + " " +
             version_text(ranks[0].identity.nccl_version);
    }
    for (std::size_t other = 0; other < i; other++) {
      if (std::strcmp(ranks[other].machine, ranks[i].machine) != 0 || std::strcmp(ranks[other].identity.bus, identity.bus) != 0) continue;
      return group.rank_name(static_cast<int>(other)) + " and " + name + " share the GPU " + identity.bus + ", which NCCL refuses";
    }
  }
  return {};
}

std::vector<Introduction> introduce(const CudaApi& api, void* device, Communicator& group) {
  std::vector<Introduction> ranks(static_cast<std::size_t>(group.size()));
  Introduction& own = ranks[static_cast<std::size_t>(group.rank())];
  api.identify(device, &own.identity);
  std::snprintf(own.machine, sizeof(own.machine), "%s", machine_name().c_str());
  group.all_gather(ranks.data(), sizeof(Introduction));
  return ranks;
}

/// By the first rank, for all.
Naming named_group(const CudaApi& api, void* device, Communicator& group) {
  Naming naming{};
  if (group.rank() == 0) {
    CudaFailure failure{};
    naming.is_made = api.group_id(device, &naming.id, &failure);
    std::snprintf(naming.reason, sizeof(naming.reason), "%.999s", failure.message);
  }
  group.broadcast(&naming, sizeof(naming), 0);
  return naming;
}

bool is_whole(Communicator& group, CollectiveFailure& failure) {
  return succeeds(failure, [&] { group.check(); });
}

void stands_at(Communicator& group, std::uint32_t calls, const std::string& place) { group.device_stands_at(calls, place); }

bool is_late(Communicator& group, double ms, CollectiveFailure& failure) {
  const std::optional<Late> late = group.late();
  if (!late) return false;
  const int rank = late->ranks.front();
  failure = {"rank " + std::to_string(rank) + " is late: nothing came from it for " + std::to_string(static_cast<long long>(ms)) + " ms while " +
                 group.rank_name(group.rank()) + " waited for it", rank};
  return true;
}

}  // namespace

std::string join_cuda_group(const CudaApi& api, void* device, const std::shared_ptr<Communicator>& group, double timeout_ms) {
  const std::string reason = obstacle(introduce(api, device, *group), *group);
  if (!reason.empty()) return reason;
  const Naming naming = named_group(api, device, *group);
  if (!naming.is_made) return naming.reason;
  const CudaGroup wanted{group, naming.id, timeout_ms, is_whole, stands_at, is_late};
  CudaFailure failure{};
  failure.rank = -1;
  if (api.join(device, &wanted, &failure)) return {};
  // Peers wait for this rank in NCCL, where they hear of its failure through the group.
  if (failure.rank < 0) group->abort(failure.message);
  throw CommError(failure.message, failure.rank < 0 ? group->name(group->rank()) : failure.rank);
}

}  // namespace raylite

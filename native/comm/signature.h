// Which collective a rank is in. Sent along with the data, so that ranks that disagree get an error, not wrong numbers.
#pragma once
#include <cstdint>
#include <string>

#include "comm/communicator.h"

namespace raylite {

enum class Collective : std::uint32_t { kAllReduce, kReduceScatter, kAllGather, kBroadcast, kBarrier };

struct Signature {
  Collective collective;
  std::uint32_t detail;  // the ReduceOp, or the root
  std::uint64_t count;   // elements, or elements of a slice

  bool operator==(const Signature& other) const {
    return collective == other.collective && detail == other.detail && count == other.count;
  }
  bool operator!=(const Signature& other) const { return !(*this == other); }

  std::string text() const {
    switch (collective) {
      case Collective::kAllReduce:
        return std::string("all-reduce (") + (detail == 0 ? "sum" : "max") + ") of " + std::to_string(count) + " elements";
      case Collective::kReduceScatter:
        return "reduce-scatter of slices of " + std::to_string(count) + " elements";
      case Collective::kAllGather:
        return "all-gather of slices of " + std::to_string(count) + " elements";
      case Collective::kBroadcast:
        return "broadcast of " + std::to_string(count) + " elements from rank " + std::to_string(detail);
      case Collective::kBarrier:
        return "barrier";
    }
    return "unknown collective";
  }
};

/// The message when `peer` is somewhere else than `rank`.
inline std::string mismatch(int peer, const Signature& theirs, int rank, const Signature& ours) {
  return "rank " + std::to_string(peer) + " is in " + theirs.text() + " while rank " + std::to_string(rank) + " is in " +
         ours.text() + ": all ranks must make the same calls in the same order";
}

}  // namespace raylite

// Which collective a rank is in. Sent along with the data, so that ranks that disagree get an error, not wrong numbers.
#pragma once
#include <cstdint>
#include <string>

#include "comm/communicator.h"

namespace raylite {

enum class Collective : std::uint32_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kBroadcast,
  kTransfer,
  kBarrier,
};

struct Signature {
  Collective collective;
  std::uint32_t detail;  // the ReduceOp, or the root
  Number number;         // of reductions
  std::uint32_t zero;
  std::uint64_t count;  // elements of reductions, else bytes; of the whole, or of a slice

  bool operator==(const Signature& other) const {
    return collective == other.collective && detail == other.detail && number == other.number && count == other.count;
  }
  bool operator!=(const Signature& other) const { return !(*this == other); }

  std::string text() const {
    const char* const types[] = {"", "bf16 ", "f16 "};
    const std::string type = number <= Number::kF16 ? types[static_cast<std::uint32_t>(number)] : "unknown ";
    const std::string elements = std::to_string(count) + " " + type + "elements";
    const std::string bytes = std::to_string(count) + " bytes";
    switch (collective) {
      case Collective::kAllReduce:
        return std::string("all-reduce (") + (detail == 0 ? "sum" : "max") + ") of " + elements;
      case Collective::kReduceScatter:
        return "reduce-scatter of slices of " + elements;
      case Collective::kAllGather:
        return "all-gather of slices of " + bytes;
      case Collective::kAllToAll:
        return "all-to-all of slices of " + bytes;
      case Collective::kBroadcast:
        return "broadcast of " + bytes + " from rank " + std::to_string(detail);
      case Collective::kTransfer:
        return "transfer of " + bytes;
      case Collective::kBarrier:
        return "barrier";
    }
    return "unknown collective";
  }

  static Signature all_reduce(std::size_t count, Number number, ReduceOp op) {
    return {Collective::kAllReduce, static_cast<std::uint32_t>(op), number, 0, count};
  }
  static Signature reduce_scatter(std::size_t slice_count, Number number) {
    return {Collective::kReduceScatter, 0, number, 0, slice_count};
  }
  static Signature all_gather(std::size_t slice_bytes) { return {Collective::kAllGather, 0, Number::kF32, 0, slice_bytes}; }
  static Signature all_to_all(std::size_t slice_bytes) { return {Collective::kAllToAll, 0, Number::kF32, 0, slice_bytes}; }
  static Signature broadcast(std::size_t bytes, int root) {
    return {Collective::kBroadcast, static_cast<std::uint32_t>(root), Number::kF32, 0, bytes};
  }
  static Signature transfer(std::size_t bytes) { return {Collective::kTransfer, 0, Number::kF32, 0, bytes}; }
  static Signature barrier() { return {Collective::kBarrier, 0, Number::kF32, 0, 0}; }
};

/// The message when `peer` (a name) is somewhere else than `rank`, which is at `place`.
inline std::string mismatch(const std::string& peer, const Signature& theirs, const std::string& rank, const Signature& ours,
                            const std::string& place) {
  return peer + " is in " + theirs.text() + " while " + rank + " is in " + ours.text() + (place.empty() ? "" : " at " + place) +
         ": all ranks must make the same calls in the same order";
}

}  // namespace raylite

// Collectives as instructions: the arguments that a device which makes them in its own way needs.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "comm/communicator.h"

namespace raylite {

/// What a call of a group failed with.
struct CollectiveFailure {
  std::string message;
  int rank = -1;
};

/// Whether `call` throws nothing; what it throws goes into `failure`.
template <class F>
bool succeeds(CollectiveFailure& failure, F call) {
  try {
    call();
    return true;
  } catch (const CommError& error) {
    failure = {error.what(), error.rank()};
  } catch (const std::exception& error) {
    failure = {error.what(), -1};
  }
  return false;
}

/// Bytes that a call reads or writes.
struct CollectiveBytes {
  void* data = nullptr;
  std::size_t bytes = 0;
};

struct CollectiveArguments {
  std::shared_ptr<Communicator> group;
  CollectiveBytes in, out;  // may overlap; either may be nothing
  /// Makes the call with the group, or another that has its ranks; `in` and `out` are those above, or where their bytes are for the
  /// moment, equally far apart if they overlap.
  std::function<void(Collectives&, void* in, void* out)> call;
  std::string place;  // for messages
  /// Makes the call on memory of the host: how a device without collectives of its own takes part. Does not throw.
  bool (*call_on)(const CollectiveArguments&, void* in, void* out, CollectiveFailure&);
};

}  // namespace raylite

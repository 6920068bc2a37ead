// Collectives as instructions. They block their thread inside the communicator; one thread of the team calls it.
#pragma once
#include "comm/communicator.h"

namespace raylite {

/// A CommError that knows which group it broke.
class GroupError : public CommError {
 public:
  GroupError(const CommError& cause, const Communicator* group) : CommError(cause.what(), cause.rank()), group_(group) {}
  const Communicator* group() const { return group_; }

 private:
  const Communicator* group_;
};

}  // namespace raylite

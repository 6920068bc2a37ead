// A collective that failed, as this library throws it: it cannot share the classes of errors of who opened it.
#pragma once
#include <stdexcept>
#include <string>

namespace raylite::cuda {

/// `rank` is the late or dead one, or -1.
class GroupFailure : public std::runtime_error {
 public:
  GroupFailure(const std::string& message, int rank) : std::runtime_error(message), rank_(rank) {}
  int rank() const { return rank_; }

 private:
  int rank_;
};

}  // namespace raylite::cuda

// How the threads of a team wait for each other, share work out, and report values.
#include "core/team_shared.h"

namespace raylite {

void Team::barrier() const {
  shared->barrier.arrive([this] { shared->claimed.store(0, std::memory_order_relaxed); });
}

std::int64_t Team::claim() const { return shared->claimed.fetch_add(1, std::memory_order_relaxed); }

void Team::fail_value(const char* what, std::int64_t row, std::int64_t value, std::int64_t low, std::int64_t high) const {
  const std::lock_guard<std::mutex> lock(shared->fault_mutex);
  if (shared->has_fault && shared->fault_row <= row) return;
  shared->has_fault = true;
  shared->fault_what = what;
  shared->fault_row = row;
  shared->fault_value = value;
  shared->fault_low = low;
  shared->fault_high = high;
}

std::string TeamShared::fault() const {
  if (!has_fault) return "";
  return fault_what + "[" + std::to_string(fault_row) + "] is " + std::to_string(fault_value) + ", expected " +
         std::to_string(fault_low) + " <= value < " + std::to_string(fault_high);
}

}  // namespace raylite

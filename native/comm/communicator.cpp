// What every kind of group knows of its calls: how many were begun, the one under way, and who lets it wait.
#include "comm/communicator.h"

#include "comm/signature.h"

namespace raylite {

namespace {

/// How much later than the limit whoever waits for somebody who waits gives up.
constexpr double kGraceMs = 10.0 * Communicator::kBeatMs;

double ms_since(std::chrono::steady_clock::time_point moment) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - moment).count();
}

std::string ranks_text(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); i++) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text + (ranks.size() == 1 ? " is" : " are");
}

}  // namespace

Communicator::Entered::Entered(Communicator& group, const Signature& what, int to, int from) : group_(group) {
  const std::lock_guard<std::mutex> lock(group_.calls_mutex_);
  group_.host_calls_ += 1;
  group_.what_ = &what;
  group_.host_place_ = group_.place_;
  group_.to_ = to, group_.from_ = from;
  group_.host_since_ = std::chrono::steady_clock::now();
}

Communicator::Entered::~Entered() {
  const std::lock_guard<std::mutex> lock(group_.calls_mutex_);
  group_.what_ = nullptr;
}

Standing Communicator::standing(bool is_waiting) const {
  const std::lock_guard<std::mutex> lock(calls_mutex_);
  return {true, is_waiting, host_calls_, device_calls_};
}

std::optional<CallUnderWay> Communicator::call() const {
  const std::lock_guard<std::mutex> lock(calls_mutex_);
  if (what_ != nullptr) return CallUnderWay{false, host_calls_, what_->text(), host_place_, to_, from_, ms_since(host_since_)};
  if (!device_place_.empty()) return CallUnderWay{true, device_calls_, {}, device_place_, -1, -1, ms_since(device_since_)};
  return {};
}

void Communicator::device_stands_at(std::uint32_t calls, const std::string& place) {
  const std::lock_guard<std::mutex> lock(calls_mutex_);
  if (calls == device_calls_ && place == device_place_) return;
  device_calls_ = calls;
  device_place_ = place;
  device_since_ = std::chrono::steady_clock::now();
}

std::optional<Late> Communicator::late() const {
  if (whole_ != nullptr) return whole_->late();
  const std::optional<CallUnderWay> at = call();
  if (!at) return {};
  Late late;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank() && at->waits_for(peer, standing_of(peer))) late.ranks.push_back(name(peer));
  }
  if (late.ranks.empty()) return {};
  late.ms = at->ms;
  const std::string what = at->what.empty() ? "" : " in " + at->what;
  const std::string place = at->place.empty() ? "" : " at " + at->place;
  const int tenths = static_cast<int>(at->ms / 100);
  late.message = ranks_text(late.ranks) + " late: " + rank_name(rank()) + " has waited " + std::to_string(tenths / 10) + "." +
                 std::to_string(tenths % 10) + " s" + what + place;
  return late;
}

int Communicator::blamed(int suspect, double over_ms) const {
  if (const std::optional<Late> found = late()) return found->ranks.front();
  return standing_of(suspect).is_waiting && over_ms < kGraceMs ? -1 : name(suspect);
}

}  // namespace raylite

// Threads that sleep between calls.
#include "core/host_team.h"

#include <pthread.h>

#include <utility>

#include "core/error.h"

namespace raylite {

HostTeam::~HostTeam() {
  stopping_ = true;
  generation_.publish(generation_.load() + 1);
  for (std::thread& other : others_) other.join();
}

void HostTeam::start() {
  if (!others_.empty()) return;
  for (int index = 1; index < threads_; index++) others_.emplace_back([this, index] { thread_main(index); });
}

void HostTeam::work(int index) {
  Team team;
  team.index = index;
  team.count = threads_;
  team.workspace = workspace_;
  team.shared = &shared_;
  bound_->run(bound_->arguments.get(), team);
  team.barrier();
}

void HostTeam::thread_main(int index) {
  pthread_setname_np(pthread_self(), "rl-host");
  // Nobody gets ahead of this thread: a call ends at a barrier that it takes part in.
  for (std::uint32_t seen = 0;; seen++) {
    generation_.wait_while(seen);
    if (stopping_) return;
    work(index);
  }
}

void HostTeam::run(const Bound& bound, std::uint8_t* workspace) {
  bound_ = &bound;
  workspace_ = workspace;
  shared_.has_fault = false;
  generation_.publish(generation_.load() + 1);
  work(0);
  if (shared_.has_fault) throw EngineError("ENGINE", shared_.fault());
}

Bound by_host_team(std::shared_ptr<HostTeam> team, Bound bound, std::shared_ptr<Memory> workspace) {
  struct Call {
    std::shared_ptr<HostTeam> team;
    Bound bound;
    std::shared_ptr<Memory> workspace;
  };
  Bound result;
  result.arguments = std::make_shared<Call>(Call{std::move(team), std::move(bound), std::move(workspace)});
  result.run = [](const void* arguments, const Team&) {
    const Call& call = *static_cast<const Call*>(arguments);
    call.team->run(call.bound, call.workspace ? call.workspace->data() : nullptr);
  };
  return result;
}

}  // namespace raylite

// Staging and the calls themselves.
#include "cuda/host_calls.h"

#include <algorithm>

namespace raylite::cuda {

namespace {

std::uint8_t* begin_of(const CollectiveBytes& part) { return static_cast<std::uint8_t*>(part.data); }
std::uint8_t* end_of(const CollectiveBytes& part) { return begin_of(part) + part.bytes; }

}  // namespace

/// Bytes that overlap on the device lie equally far apart on the host.
std::unique_ptr<HostCalls::Call> HostCalls::stage(const CollectiveArguments& a) {
  auto call = std::make_unique<Call>(Call{this, &a, nullptr, nullptr, nullptr});
  const bool overlap = a.in.bytes > 0 && a.out.bytes > 0 && begin_of(a.in) < end_of(a.out) && begin_of(a.out) < end_of(a.in);
  const std::uint8_t* first = std::min(begin_of(a.in), begin_of(a.out));
  const std::size_t apart = (a.in.bytes + 63) / 64 * 64;
  const std::size_t bytes = overlap ? static_cast<std::size_t>(std::max(end_of(a.in), end_of(a.out)) - first) : apart + a.out.bytes;
  if (bytes == 0) return call;
  call->stage = std::make_unique<PinnedBytes>(bytes);
  auto* base = call->stage->as<std::uint8_t>();
  call->in = overlap ? base + (begin_of(a.in) - first) : base;
  call->out = overlap ? base + (begin_of(a.out) - first) : base + apart;
  return call;
}

void HostCalls::put(const CollectiveArguments& a, const Queue& queue) {
  std::unique_ptr<Call>& call = calls_[&a];
  if (!call) call = stage(a);
  if (a.in.bytes > 0) RL_CUDA(cudaMemcpyAsync(call->in, a.in.data, a.in.bytes, cudaMemcpyDeviceToHost, queue.stream));
  RL_CUDA(cudaLaunchHostFunc(queue.stream, make, call.get()));
  if (a.out.bytes > 0) RL_CUDA(cudaMemcpyAsync(a.out.data, call->out, a.out.bytes, cudaMemcpyHostToDevice, queue.stream));
}

void HostCalls::make(void* raw) {
  const Call& call = *static_cast<Call*>(raw);
  HostCalls& owner = *call.owner;
  {
    const std::lock_guard<std::mutex> lock(owner.mutex_);
    if (owner.has_failed_) return;
  }
  CollectiveFailure failure;
  if (call.arguments->call_on(*call.arguments, call.in, call.out, failure)) return;
  const std::lock_guard<std::mutex> lock(owner.mutex_);
  owner.has_failed_ = true;
  owner.failure_ = {call.arguments->place + ": " + failure.message, failure.rank};
}

void HostCalls::begin() {
  const std::lock_guard<std::mutex> lock(mutex_);
  has_failed_ = false;
}

void HostCalls::throw_failure() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (has_failed_) throw GroupFailure(failure_.message, failure_.rank);
}

}  // namespace raylite::cuda

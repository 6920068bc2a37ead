// The thread, and what streams say to it.
#include "cuda/stream_thread.h"

#include "core/error.h"
#include "cuda/check.h"

namespace raylite::cuda {

StreamThread::StreamThread(const Program& program, raylite::Stream stream) : program_(program) {
  if (!program.streams[static_cast<std::size_t>(stream)].empty()) thread_ = std::thread([this] { thread_main(); });
}

StreamThread::~StreamThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void StreamThread::put(std::size_t instruction, cudaStream_t stream) {
  Call& call = calls_.emplace(instruction, Call{this, instruction, 0}).first->second;
  RL_CUDA(cudaLaunchHostFunc(stream, hand_over, &call));
}

void StreamThread::wait(cudaStream_t stream, std::uint32_t count) {
  Call& call = waits_.emplace(count, Call{this, 0, count}).first->second;
  RL_CUDA(cudaLaunchHostFunc(stream, await, &call));
}

void StreamThread::hand_over(void* raw) {
  const Call& call = *static_cast<Call*>(raw);
  {
    const std::lock_guard<std::mutex> lock(call.owner->mutex_);
    call.owner->queue_.push_back(call.instruction);
  }
  call.owner->changed_.notify_all();
}

void StreamThread::await(void* raw) {
  const Call& call = *static_cast<Call*>(raw);
  StreamThread& owner = *call.owner;
  std::unique_lock<std::mutex> lock(owner.mutex_);
  owner.changed_.wait(lock, [&] { return owner.over_ >= call.count; });
}

void StreamThread::thread_main() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::size_t index = queue_.front();
    queue_.pop_front();
    const bool is_wanted = failure_.empty();  // behind a failure nothing is touched, and nobody waits for ever
    is_busy_ = true;
    lock.unlock();
    const Instruction& instruction = program_.instructions[index];
    std::string failure;
    if (is_wanted && !instruction.run_on_host(instruction, failure)) {
      failure = describe(index, instruction.op, instruction.path) + ": " + failure;
    }
    lock.lock();
    if (failure_.empty()) failure_ = failure;
    is_busy_ = false;
    over_ += 1;
    changed_.notify_all();
  }
}

void StreamThread::begin() {
  const std::lock_guard<std::mutex> lock(mutex_);
  over_ = 0;
  failure_.clear();
}

void StreamThread::throw_failure() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!failure_.empty()) throw EngineError("ENGINE", failure_);
}

void StreamThread::drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty() && !is_busy_; });
}

}  // namespace raylite::cuda

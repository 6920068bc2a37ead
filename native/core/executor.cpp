// Runs programs. A failure is recorded once, ends all streams at their next instruction, and aborts the groups that
// could otherwise leave peers waiting for a collective that will never come.
#include "core/executor.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>

#include "core/error.h"
#include "core/team_shared.h"

namespace raylite {

namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Up to 200 µs, told apart by every argument: Murmur3's finaliser.
void sleep_a_while(std::uint32_t seed, std::uint32_t stream, int thread, std::uint32_t instruction) {
  std::uint32_t hash = seed ^ (instruction * 256 + static_cast<std::uint32_t>(static_cast<int>(kStreams) * thread) + stream);
  hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
  hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
  std::this_thread::sleep_for(std::chrono::microseconds((hash ^ (hash >> 16)) % 200));
}

/// The first element that is NaN or infinite, or -1. All bits of its exponent are set.
std::int64_t first_not_finite(const Output& output) {
  const auto scan = [&](const auto* words, auto exponent) -> std::int64_t {
    for (std::int64_t i = 0; i < output.elements; i++) {
      if ((words[i] & exponent) == exponent) return i;
    }
    return -1;
  };
  const auto* half = reinterpret_cast<const std::uint16_t*>(output.data);
  switch (output.dtype) {
    case DType::kF32:
      return scan(reinterpret_cast<const std::uint32_t*>(output.data), std::uint32_t{0x7f800000});
    case DType::kBF16:
      return scan(half, std::uint16_t{0x7f80});
    case DType::kF16:
      return scan(half, std::uint16_t{0x7c00});
    default:
      return -1;
  }
}

void pin_to_core(int index) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) == 0) return;
  int wanted = index % CPU_COUNT(&allowed);
  for (int core = 0; core < CPU_SETSIZE; core++) {
    if (!CPU_ISSET(core, &allowed) || wanted-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
    return;
  }
}

}  // namespace

struct Executor::Run {
  Run(std::shared_ptr<Program> program_, const RunOptions& options_, int threads)
      : program(std::move(program_)), options(options_), compute(threads) {
    if (options.profile) outcome.seconds.assign(program->instructions.size(), 0.0);
  }

  /// Ends the run, for a fault of this rank or (`broken`) of a group, and lets no group wait for what will not come.
  void fail(const std::string& message, const CommError* broken = nullptr) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (failed.load() || is_over) return;
      outcome.code = broken ? "COMM" : "ENGINE";
      outcome.message = message;
      outcome.rank = broken ? broken->rank() : -1;
      failed.store(true);
    }
    for (const auto& communicator : program->communicators) {
      if (!communicator) continue;
      if (broken) communicator->fail_all(*broken);
      else communicator->abort(message);
    }
    for (Signal& signal : progress) signal.publish(UINT32_MAX);
  }

  /// Called once, when all threads are through: a cancellation from here on comes too late to change anything.
  Outcome finish() {
    const std::lock_guard<std::mutex> lock(mutex);
    is_over = true;
    return std::move(outcome);
  }

  void advance(std::uint32_t stream, std::uint32_t done) {
    // After a failure the counters stay at their end, so that nobody waits for what will not come.
    progress[stream].publish(done);
    if (failed.load()) progress[stream].publish(UINT32_MAX);
  }

  void wait_for(const Instruction& instruction) {
    for (std::uint32_t stream = 0; stream < kStreams; stream++) {
      const std::uint32_t count = instruction.waits[stream];
      for (std::uint32_t done = progress[stream].load(); done < count; done = progress[stream].load()) {
        progress[stream].wait_while(done);
      }
    }
  }

  /// All instructions of one stream, called by every thread of its team.
  void run_stream(std::uint32_t stream, TeamShared& shared, int index, int count) {
    Team team;
    team.index = index;
    team.count = count;
    team.workspace = program->workspaces[stream] ? program->workspaces[stream]->data() : nullptr;
    team.shared = &shared;
    for (const std::uint32_t i : program->streams[stream]) {
      const Instruction& instruction = program->instructions[i];
      if (instruction.is_waiting) {
        wait_for(instruction);
        settle(shared, i);
        if (shared.stop) return;
      }
      if (options.jitter != 0) sleep_a_while(options.jitter, stream, index, i);
      // From when all are there: tiles are claimed, so that a thread that comes late may find its work done.
      if (options.profile) shared.barrier.arrive([&] { shared.started = now_seconds(); });
      try {
        instruction.bound.run(instruction.bound.arguments.get(), team);
        if (index == 0) check_groups();
      } catch (const CommError& error) {
        fail(describe(i, instruction.op, instruction.path) + ": " + error.what(), &error);
      } catch (const std::exception& error) {
        fail(describe(i, instruction.op, instruction.path) + ": " + error.what());
      }
      settle(shared, i);
      if (options.profile && index == 0) outcome.seconds[i] = now_seconds() - shared.started;
      if (options.check && !shared.stop) {
        if (index == 0) check_outputs(i);
        settle(shared, i);
      }
      if (shared.stop) return;
      if (index == 0) advance(stream, instruction.ordinal + 1);
    }
  }

  /// A group may have failed while this rank computes: it shall not learn of it at its next collective only.
  void check_groups() const {
    for (const auto& communicator : program->communicators) {
      if (communicator) communicator->check();
    }
  }

  /// Notes an output of the instruction that holds NaN or infinity.
  void check_outputs(std::uint32_t i) {
    const Instruction& instruction = program->instructions[i];
    for (const Output& output : instruction.outputs) {
      const std::int64_t at = first_not_finite(output);
      if (at < 0) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      outcome.finding.note(i, instruction, output, at);
      return;
    }
  }

  /// Every thread of the team agrees on whether to go on.
  void settle(TeamShared& shared, std::uint32_t i) {
    shared.barrier.arrive([&] {
      shared.claimed.store(0, std::memory_order_relaxed);
      if (shared.has_fault) {
        const Instruction& instruction = program->instructions[i];
        fail(describe(i, instruction.op, instruction.path) + ": " + shared.fault());
      }
      shared.stop = failed.load();
    });
  }

  std::shared_ptr<Program> program;
  const RunOptions options;
  TeamShared compute;
  TeamShared alone[kStreams] = {TeamShared(1), TeamShared(1), TeamShared(1), TeamShared(1), TeamShared(1)};  // by stream
  Signal progress[kStreams];
  std::mutex mutex;  // for the three below, but for the seconds, which each thread writes for itself
  std::atomic<bool> failed{false};
  bool is_over = false;
  Outcome outcome;
  std::atomic<int> running{0};
  std::function<void(Outcome)> done;
};

Executor::Executor(int threads, bool pin) : threads_(threads) {
  for (int thread = 0; thread < threads; thread++) {
    pool_.emplace_back([this, thread, pin] { compute_main(thread, pin, 0); });
  }
}

Executor::~Executor() {
  cancel("the device was disposed");
  wait_idle();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : pool_) thread.join();
}

void Executor::start(std::shared_ptr<Program> program, const RunOptions& options, std::function<void(Outcome)> done) {
  auto run = std::make_shared<Run>(std::move(program), options, threads_);
  run->done = std::move(done);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (current_) throw EngineError("ENGINE", "the device is running a program: await it before the next run");
    for (std::uint32_t stream = 1; stream < kStreams; stream++) {
      if (has_thread_[stream] || run->program->streams[stream].empty()) continue;
      pool_.emplace_back([this, stream, seen = generation_] { stream_main(stream, seen); });
      has_thread_[stream] = true;
    }
    run->running = static_cast<int>(pool_.size());
    current_ = std::move(run);
    generation_++;
  }
  changed_.notify_all();
}

void Executor::cancel(const std::string& reason) {
  std::shared_ptr<Run> run;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    run = current_;
  }
  if (run) run->fail(reason);
}

void Executor::wait_idle() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !current_; });
}

std::shared_ptr<Executor::Run> Executor::next_run(std::uint64_t& seen) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return stopping_ || generation_ != seen; });
  if (stopping_) return nullptr;
  seen = generation_;
  return current_;
}

void Executor::compute_main(int thread, bool pin, std::uint64_t seen) {
  pthread_setname_np(pthread_self(), "rl-compute");
  if (pin) pin_to_core(thread);
  while (const std::shared_ptr<Run> run = next_run(seen)) {
    run->run_stream(0, run->compute, thread, threads_);
    leave(*run);
  }
}

void Executor::stream_main(std::uint32_t stream, std::uint64_t seen) {
  constexpr const char* kNames[kStreams] = {"rl-compute", "rl-exchange", "rl-copy", "rl-disk", "rl-host"};
  pthread_setname_np(pthread_self(), kNames[stream]);
  while (const std::shared_ptr<Run> run = next_run(seen)) {
    run->run_stream(stream, run->alone[stream], 0, 1);
    leave(*run);
  }
}

/// The last thread to leave a run tells its end.
void Executor::leave(Run& run) {
  if (run.running.fetch_sub(1) != 1) return;
  Outcome outcome = run.finish();
  const std::function<void(Outcome)> done = std::move(run.done);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    current_.reset();  // before `done`, so that it may start the next run
  }
  changed_.notify_all();
  done(std::move(outcome));
}

}  // namespace raylite

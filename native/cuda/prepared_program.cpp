// Issues, captures and replays a program. Within a run the host waits once, for its end.
#include "cuda/prepared_program.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "cuda/inspect.h"
#include "cuda/nccl_groups.h"

namespace raylite::cuda {

/// Looks at a run instruction by instruction, which therefore is not captured.
struct PreparedProgram::Observer {
  const CudaRun& run;
  std::vector<Event> begins, ends;  // of each instruction, for a profile
};

namespace {
constexpr std::size_t kVariantsMax = 8;  // of a program that keep a graph
}

PreparedProgram::PreparedProgram(Context& context, const Program& program)
    : context_(context),
      program_(program),
      worst_((context.use(), sizeof(unsigned long long))),
      worst_on_host_(sizeof(unsigned long long)),
      faults_(worst_.as<unsigned long long>()),
      disk_(program, raylite::Stream::kDisk),
      host_(program, raylite::Stream::kHost),
      event_of_(program.instructions.size(), -1),
      segments_(context, program) {
  for (std::size_t i = 0; i < program.instructions.size(); i++) {
    const Instruction& instruction = program.instructions[i];
    for (std::uint32_t s = 0; s < kStreams; s++) {
      if (instruction.waits[s] == 0) continue;
      int& event = event_of_[program.streams[s][instruction.waits[s] - 1]];
      if (event >= 0) continue;
      event = static_cast<int>(done_.size());
      done_.emplace_back();
    }
  }
  for (const auto& group : program.communicators) {
    auto own = group ? context.groups().find(*group) : nullptr;
    // Groups of the same ranks may share a communicator.
    if (own && std::find(groups_.begin(), groups_.end(), own) == groups_.end()) groups_.push_back(std::move(own));
  }
}

PreparedProgram::~PreparedProgram() {
  for (const auto& [rows, variant] : variants_) {
    if (variant.graph != nullptr) cudaGraphExecDestroy(variant.graph);
  }
}

namespace {
/// Whether what the instruction waits for has been put on its streams.
bool can_start(const Instruction& instruction, const std::uint32_t (&issued)[kStreams]) {
  for (std::uint32_t s = 0; s < kStreams; s++) {
    if (instruction.waits[s] > issued[s]) return false;
  }
  return true;
}
}  // namespace

StreamThread* PreparedProgram::thread_of(std::uint32_t stream) {
  switch (static_cast<raylite::Stream>(stream)) {
    case raylite::Stream::kDisk:
      return &disk_;
    case raylite::Stream::kHost:
      return &host_;
    default:
      return nullptr;
  }
}

void PreparedProgram::run_instruction(std::size_t i, bool is_choosing) {
  const Instruction& instruction = program_.instructions[i];
  const auto s = static_cast<std::uint32_t>(instruction.stream);
  Queue queue{context_.stream(s), &context_, &faults_, &calls_, &groups_, i, &segments_, is_choosing};
  Team team;
  team.workspace = program_.workspaces[s] ? program_.workspaces[s]->data() : nullptr;
  team.queue = &queue;
  try {
    instruction.bound.run(instruction.bound.arguments.get(), team);
  } catch (const EngineError& error) {
    throw EngineError(error.code(), describe(i, instruction.op, instruction.path) + ": " + error.what());
  }
}

void PreparedProgram::choose() {
  for (std::size_t i = 0; i < program_.instructions.size(); i++) {
    const std::string& op = program_.instructions[i].op;
    if (op == "attention" || op == "attention_backward") run_instruction(i, true);
  }
}

PreparedProgram::Variant& PreparedProgram::variant_of(const CudaRun& run) {
  segments_.begin(run);
  if (variants_.empty()) choose();  // finds out which segments matter
  if (variants_.count(segments_.rows()) == 0) {
    if (!variants_.empty()) choose();
    if (variants_.size() >= kVariantsMax) segments_.forget();
  }
  return variants_[segments_.rows()];
}

void PreparedProgram::issue_one(std::size_t i, Observer* observer) {
  const Instruction& instruction = program_.instructions[i];
  const auto s = static_cast<std::uint32_t>(instruction.stream);
  const cudaStream_t stream = context_.stream(s);
  for (std::uint32_t other = 0; other < kStreams; other++) {
    if (instruction.waits[other] == 0) continue;
    const std::uint32_t last = program_.streams[other][instruction.waits[other] - 1];
    RL_CUDA(cudaStreamWaitEvent(stream, done_[static_cast<std::size_t>(event_of_[last])].get(), 0));
    if (StreamThread* thread = thread_of(other)) thread->wait(stream, instruction.waits[other]);
  }
  const bool is_timed = observer != nullptr && observer->run.seconds != nullptr;
  if (observer != nullptr && observer->run.jitter != 0) delay(stream, observer->run.jitter, static_cast<std::uint32_t>(i));
  if (is_timed) RL_CUDA(cudaEventRecord(observer->begins[i].get(), stream));
  if (StreamThread* thread = thread_of(s)) {
    thread->put(i, stream);
    if (observer != nullptr) thread->wait(stream, instruction.ordinal + 1);  // its end, not that it was handed over
  } else {
    run_instruction(i, false);
  }
  if (is_timed) RL_CUDA(cudaEventRecord(observer->ends[i].get(), stream));
  if (observer != nullptr && observer->run.finding != nullptr) look_for_not_finite(stream, instruction, i, *observer->run.finding);
  if (event_of_[i] >= 0) RL_CUDA(cudaEventRecord(done_[static_cast<std::size_t>(event_of_[i])].get(), stream));
}

void PreparedProgram::issue(Observer* observer) {
  const cudaStream_t compute = context_.stream(0);
  faults_.clear();
  RL_CUDA(cudaMemsetAsync(worst_.as<void>(), 0xff, sizeof(unsigned long long), compute));
  RL_CUDA(cudaEventRecord(begin_.get(), compute));
  for (std::uint32_t s = 1; s < kStreams; s++) {
    if (!program_.streams[s].empty()) RL_CUDA(cudaStreamWaitEvent(context_.stream(s), begin_.get(), 0));
  }
  std::uint32_t issued[kStreams] = {};
  for (bool moves = true; moves;) {
    moves = false;
    for (std::uint32_t s = 0; s < kStreams; s++) {
      const auto& list = program_.streams[s];
      while (issued[s] < list.size() && can_start(program_.instructions[list[issued[s]]], issued)) {
        issue_one(list[issued[s]++], observer);
        moves = true;
      }
    }
  }
  for (std::uint32_t s = 1; s < kStreams; s++) {
    if (program_.streams[s].empty()) continue;
    RL_CUDA(cudaEventRecord(ends_[s].get(), context_.stream(s)));
    RL_CUDA(cudaStreamWaitEvent(compute, ends_[s].get(), 0));
    if (StreamThread* thread = thread_of(s)) thread->wait(compute, static_cast<std::uint32_t>(program_.streams[s].size()));
  }
  RL_CUDA(cudaMemcpyAsync(worst_on_host_.as<void>(), worst_.as<void>(), sizeof(unsigned long long), cudaMemcpyDeviceToHost, compute));
}

cudaGraphExec_t PreparedProgram::capture() {
  const cudaStream_t compute = context_.stream(0);
  RL_CUDA(cudaStreamBeginCapture(compute, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t graph = nullptr;
  try {
    issue(nullptr);
  } catch (...) {
    if (cudaStreamEndCapture(compute, &graph) == cudaSuccess) cudaGraphDestroy(graph);
    throw;
  }
  RL_CUDA(cudaStreamEndCapture(compute, &graph));
  cudaGraphExec_t captured = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&captured, graph, 0);
  cudaGraphDestroy(graph);
  RL_CUDA(error);
  return captured;
}

/// No group may be given up between the look at whether it is whole and the launch of kernels that use it.
void PreparedProgram::launch_graph(cudaGraphExec_t graph) {
  std::vector<std::unique_lock<std::mutex>> held;
  for (const auto& group : groups_) held.push_back(group->hold());
  RL_CUDA(cudaGraphLaunch(graph, context_.stream(0)));
}

void PreparedProgram::copy_mirrors(const CudaRun& run, bool is_to_device) {
  for (std::size_t i = 0; i < run.mirror_count; i++) {
    const CudaMirror& mirror = run.mirrors[i];
    if (is_to_device) {
      RL_CUDA(cudaMemcpyAsync(mirror.device, mirror.host, mirror.bytes, cudaMemcpyHostToDevice, context_.stream(0)));
    } else {
      RL_CUDA(cudaMemcpyAsync(mirror.host, mirror.device, mirror.bytes, cudaMemcpyDeviceToHost, context_.stream(0)));
    }
  }
}

void PreparedProgram::throw_value(const Faults::Entry& entry, const char* what, std::int64_t row, std::int64_t value, std::int64_t low,
                                  std::int64_t high) {
  const Instruction& instruction = program_.instructions[entry.instruction];
  throw EngineError("ENGINE", describe(entry.instruction, instruction.op, instruction.path) + ": " + what + "[" + std::to_string(row) + "] is " +
                                  std::to_string(value) + ", expected " + std::to_string(low) + " <= value < " + std::to_string(high));
}

/// Walks over the segments as the CPU does, to the first that is none.
void PreparedProgram::throw_segments(const Faults::Entry& entry) {
  const std::int64_t n = entry.high;
  std::vector<std::int32_t> starts(static_cast<std::size_t>(n)), ends(static_cast<std::size_t>(n));
  context_.copy(starts.data(), entry.values, starts.size() * sizeof(std::int32_t));
  context_.copy(ends.data(), entry.ends, ends.size() * sizeof(std::int32_t));
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i < n; i++) {
    const std::int64_t start = starts[static_cast<std::size_t>(i)], end = ends[static_cast<std::size_t>(i)];
    if (i > 0 && ends[static_cast<std::size_t>(begin)] == i) begin = i;
    if (start != begin) throw_value(entry, "starts", i, start, begin, begin + 1);
    const std::int64_t first = ends[static_cast<std::size_t>(begin)];
    const std::int64_t low = i == begin ? i + 1 : first, high = i == begin ? n + 1 : first + 1;
    if (end < low || end >= high) throw_value(entry, "ends", i, end, low, high);
  }
  throw EngineError("ENGINE", "segments do not tile the rows");
}

void PreparedProgram::throw_faults() {
  const unsigned long long worst = *worst_on_host_.as<unsigned long long>();
  if (worst == ~0ull) return;
  const Faults::Entry& entry = faults_.entry(worst);
  if (entry.ends != nullptr) throw_segments(entry);
  const auto row = static_cast<std::int64_t>(worst & ((1ull << kFaultRowBits) - 1));
  std::int32_t value = 0;
  context_.copy(&value, entry.values + row, sizeof(value));
  throw_value(entry, entry.what, row, value, entry.low, entry.high);
}

void PreparedProgram::launch(const CudaRun& run) {
  const cudaStream_t compute = context_.stream(0);
  Variant& variant = variant_of(run);
  copy_mirrors(run, true);
  if (run.finding != nullptr || run.jitter != 0 || run.seconds != nullptr) {
    Observer observer{run, {}, {}};
    for (std::size_t i = 0; run.seconds != nullptr && i < program_.instructions.size(); i++) {
      observer.begins.emplace_back(true);
      observer.ends.emplace_back(true);
    }
    issue(&observer);
    RL_CUDA(cudaStreamSynchronize(compute));
    for (std::size_t i = 0; i < observer.begins.size(); i++) {
      float milliseconds = 0;
      RL_CUDA(cudaEventElapsedTime(&milliseconds, observer.begins[i].get(), observer.ends[i].get()));
      run.seconds[i] = static_cast<double>(milliseconds) / 1000;
    }
  } else if (variant.runs == 0) {
    issue(nullptr);  // loads kernels and chooses algorithms, which a capture must not
  } else {
    if (variant.graph == nullptr) variant.graph = capture();
    launch_graph(variant.graph);
  }
  copy_mirrors(run, false);
  RL_CUDA(cudaStreamSynchronize(compute));
  variant.runs++;
}

void PreparedProgram::run(const CudaRun& run) {
  context_.use();
  calls_.begin();
  disk_.begin();
  host_.begin();
  try {
    launch(run);
    calls_.throw_failure();
    disk_.throw_failure();
    host_.throw_failure();
    for (const auto& group : groups_) group->hold();
    throw_faults();
  } catch (const std::exception& error) {
    // Nothing may be left running, and no peer waiting for what will not come.
    const auto* broken = dynamic_cast<const GroupFailure*>(&error);
    for (const auto& group : program_.communicators) {
      if (!group) continue;
      if (broken != nullptr) group->fail_all(CommError(broken->what(), broken->rank()));
      else group->abort(error.what());
    }
    for (std::uint32_t s = 0; s < kStreams; s++) cudaStreamSynchronize(context_.stream(s));
    disk_.drain();
    host_.drain();
    throw;
  }
}

}  // namespace raylite::cuda

// Memory with mirrors, and one run at a time, on top of the library.
#include "core/cuda_device.h"

#include <dlfcn.h>
#include <pthread.h>

#include <cstring>
#include <utility>

#include "core/cuda_group.h"
#include "core/error.h"
#include "core/machine.h"

namespace raylite {

namespace {

[[noreturn]] void raise(const CudaFailure& failure) {
  throw EngineError(std::strcmp(failure.code, "CUDA") == 0 ? "CUDA" : "ENGINE", failure.message);
}

/// Calls f with room for a failure; throws it when f gives nothing.
template <class F>
auto checked(F f) {
  CudaFailure failure{};
  auto result = f(&failure);
  if (!result) raise(failure);
  return result;
}

const char* path_or_null(const std::string& path) { return path.empty() ? nullptr : path.c_str(); }

}  // namespace

const CudaApi& cuda_library(const std::string& path) {
  // The library stays open: kernels that were registered once cannot be taken back.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw EngineError("CUDA", reason != nullptr ? reason : path + " cannot be opened");
  }
  const auto get = reinterpret_cast<const CudaApi* (*)()>(dlsym(library, "raylite_cuda_api"));
  if (get == nullptr || get()->stamp != cuda_api_stamp()) {
    throw EngineError("CUDA", path + " is of another build than the addon: build both again");
  }
  return *get();
}

CudaLibraries CudaOptions::libraries() const {
  return {path_or_null(cublas_lt), path_or_null(nccl), path_or_null(cudnn), path_or_null(cudart), path_or_null(nvrtc), path_or_null(nvrtc_builtins), attention};
}

CudaDevice::CudaDevice(const CudaOptions& options, std::shared_ptr<HostTeam> host)
    : api_(cuda_library(options.library)), host_(std::move(host)) {
  const CudaLibraries libraries = options.libraries();
  void* handle = checked([&](CudaFailure* failure) { return api_.open(options.index, &libraries, failure); });
  handle_ = std::shared_ptr<void>(handle, api_.close);
  thread_ = std::thread([this] { thread_main(); });
}

CudaDevice::~CudaDevice() {
  cancel("the device was disposed");
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CudaDevice::cancel(const std::string& reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!next_ || !cancelled_.empty()) return;
  cancelled_ = reason;
  // Kernels come to an end by themselves; collectives whose peers do not come, no.
  for (const auto& group : next_->program->communicators) {
    if (group) group->abort(reason);
  }
}

std::shared_ptr<Memory> CudaDevice::allocate(std::size_t bytes, bool on_host) {
  if (on_host) {
    // From the start of a page on: transfers of files take whole ones.
    constexpr std::size_t kPage = SwapFile::kAligned;
    void* host = checked([&](CudaFailure* failure) { return api_.allocate_host(handle_.get(), bytes + kPage - 1, failure); });
    auto* begin = reinterpret_cast<std::uint8_t*>((reinterpret_cast<std::uintptr_t>(host) + kPage - 1) / kPage * kPage);
    std::memset(begin, 0, bytes);
    return std::make_shared<Memory>(begin, bytes, true, [free = api_.free_host, handle = handle_, host] { free(handle.get(), host); });
  }
  void* memory = checked([&](CudaFailure* failure) { return api_.allocate(handle_.get(), bytes, failure); });
  const auto give_back = [free = api_.free, handle = handle_, mirrors = mirrors_, memory] {
    {
      const std::lock_guard<std::mutex> lock(mirrors->mutex);
      mirrors->of.erase(memory);
    }
    free(handle.get(), memory);
  };
  return std::make_shared<Memory>(static_cast<std::uint8_t*>(memory), bytes, false, give_back);
}

std::shared_ptr<std::uint8_t> CudaDevice::host_view(const std::shared_ptr<Memory>& memory) {
  const std::lock_guard<std::mutex> lock(mirrors_->mutex);
  std::shared_ptr<std::uint8_t>& mirror = mirrors_->of[memory->data()];
  if (!mirror) {
    void* host = checked([&](CudaFailure* failure) { return api_.allocate_host(handle_.get(), memory->bytes(), failure); });
    const auto free = [free = api_.free_host, handle = handle_](std::uint8_t* at) { free(handle.get(), at); };
    mirror = std::shared_ptr<std::uint8_t>(static_cast<std::uint8_t*>(host), free);
    read(*memory, 0, host, memory->bytes());
  }
  return mirror;
}

void CudaDevice::read(const Memory& from, std::size_t offset, void* to, std::size_t bytes) {
  checked([&](CudaFailure* failure) { return api_.copy(handle_.get(), to, from.data() + offset, bytes, failure); });
}

void CudaDevice::write(const Memory& to, std::size_t offset, const void* from, std::size_t bytes) {
  checked([&](CudaFailure* failure) { return api_.copy(handle_.get(), to.data() + offset, from, bytes, failure); });
  const std::lock_guard<std::mutex> lock(mirrors_->mutex);
  const auto found = mirrors_->of.find(to.data());
  if (found != mirrors_->of.end()) std::memcpy(found->second.get() + offset, from, bytes);
}

void CudaDevice::copy(const Memory& from, std::size_t from_offset, const Memory& to, std::size_t to_offset, std::size_t bytes) {
  checked([&](CudaFailure* failure) { return api_.copy(handle_.get(), to.data() + to_offset, from.data() + from_offset, bytes, failure); });
  const std::lock_guard<std::mutex> lock(mirrors_->mutex);
  const auto found = mirrors_->of.find(to.data());
  if (found == mirrors_->of.end()) return;
  checked([&](CudaFailure* failure) { return api_.copy(handle_.get(), found->second.get() + to_offset, to.data() + to_offset, bytes, failure); });
}

std::string CudaDevice::place() {
  CudaIdentity identity{};
  api_.identify(handle_.get(), &identity);
  return "GPU " + std::string(identity.bus) + " of machine " + machine_name();
}

std::vector<std::uint8_t> CudaDevice::share(const Memory& memory) {
  CudaMemoryHandle handle{};
  checked([&](CudaFailure* failure) { return api_.share(handle_.get(), memory.data(), &handle, failure); });
  return {handle.bytes, handle.bytes + sizeof(handle.bytes)};
}

std::shared_ptr<Memory> CudaDevice::open_shared(const std::vector<std::uint8_t>& given, std::size_t bytes) {
  CudaMemoryHandle handle{};
  if (given.size() != sizeof(handle.bytes)) throw EngineError("ENGINE", "a handle of shared memory has 64 bytes, not " + std::to_string(given.size()));
  std::memcpy(handle.bytes, given.data(), given.size());
  void* memory = checked([&](CudaFailure* failure) { return api_.map(handle_.get(), &handle, failure); });
  const auto give_back = [unmap = api_.unmap, device = handle_, memory] { unmap(device.get(), memory); };
  return std::make_shared<Memory>(static_cast<std::uint8_t*>(memory), bytes, false, give_back);
}

std::vector<std::string> CudaDevice::choices() {
  std::vector<std::string> lines;
  api_.choices(handle_.get(), [](void* to, const char* line) { static_cast<std::vector<std::string>*>(to)->emplace_back(line); }, &lines);
  return lines;
}

std::string CudaDevice::join(const std::shared_ptr<Communicator>& group, double timeout_ms) {
  return join_cuda_group(api_, handle_.get(), group, timeout_ms);
}

void CudaDevice::pass(Communicator& group, const Message& message) {
  std::uint8_t* data = message.memory->data() + message.offset;
  CudaFailure failure{};
  failure.rank = -1;
  const CudaMessage own{&group, data, message.bytes, message.peer, message.is_sent};
  switch (api_.pass(handle_.get(), &own, &failure)) {
    case CudaPassed::kDone:
      return;
    case CudaPassed::kFailed: {
      const CommError error(failure.message, failure.rank);
      group.fail_all(error);
      throw error;
    }
    case CudaPassed::kNotJoined:
      break;
  }
  std::vector<std::uint8_t> bytes(message.bytes);
  if (message.is_sent) read(*message.memory, message.offset, bytes.data(), bytes.size());
  group.send_receive(transfer_of(bytes.data(), bytes.size(), message.peer, message.is_sent));
  if (!message.is_sent) write(*message.memory, message.offset, bytes.data(), bytes.size());
}

void CudaDevice::prepare(Program& program) {
  void* prepared = checked([&](CudaFailure* failure) { return api_.prepare(handle_.get(), &program, failure); });
  program.prepared = std::shared_ptr<void>(prepared, [forget = api_.forget](void* at) { forget(at); });
}

void CudaDevice::start(std::shared_ptr<Program> program, const RunOptions& options, std::function<void(Outcome)> done) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (busy_) throw EngineError("ENGINE", "the device is running a program: await it before the next run");
    busy_ = true;
    next_ = std::make_unique<Job>(Job{std::move(program), options, std::move(done)});
  }
  changed_.notify_all();
}

Outcome CudaDevice::run(const Job& job) {
  std::vector<CudaMirror> mirrors;
  {
    const std::lock_guard<std::mutex> lock(mirrors_->mutex);
    for (const auto& memory : job.program->memories) {
      const auto found = mirrors_->of.find(memory->data());
      if (found != mirrors_->of.end()) mirrors.push_back({found->second.get(), memory->data(), memory->bytes()});
    }
  }
  Outcome outcome;
  if (job.options.profile) outcome.seconds.assign(job.program->instructions.size(), 0.0);
  const CudaRun run{mirrors.data(), mirrors.size(), job.options.check ? &outcome.finding : nullptr, job.options.jitter,
                    job.options.profile ? outcome.seconds.data() : nullptr};
  CudaFailure failure{};
  failure.rank = -1;
  if (!api_.run(job.program->prepared.get(), &run, &failure)) {
    outcome.code = failure.code;
    outcome.message = failure.message;
    outcome.rank = failure.rank;
  }
  return outcome;
}

void CudaDevice::thread_main() {
  pthread_setname_np(pthread_self(), "rl-cuda");
  for (;;) {
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || next_; });
      if (!next_) return;
      job = next_.get();
    }
    Outcome outcome = run(*job);
    const std::function<void(Outcome)> done = std::move(job->done);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!cancelled_.empty()) outcome = {"ENGINE", std::exchange(cancelled_, {}), -1, {}, {}};
      next_.reset();
      busy_ = false;  // before `done`, so that it may start the next run
    }
    done(std::move(outcome));
  }
}

}  // namespace raylite

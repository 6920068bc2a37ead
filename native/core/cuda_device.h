// A GPU as a device: everything that touches CUDA is behind the library's functions (core/cuda_api.h). A thread of its own
// waits for the ends of runs.
#pragma once
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "core/cuda_api.h"
#include "core/device.h"
#include "core/host_team.h"

namespace raylite {

/// Opens the library once per path. Throws EngineError("CUDA") that says what is missing.
const CudaApi& cuda_library(const std::string& path);

struct CudaOptions {
  std::string library;
  int index = 0;
  std::string cublas_lt;  // paths; empty: not found
  std::string nccl;
  std::string cudnn;
  std::string cudart;
  std::string nvrtc;
  std::string nvrtc_builtins;
  AttentionBy attention = AttentionBy::kMeasured;

  CudaLibraries libraries() const;
};

class CudaDevice final : public Device {
 public:
  /// `host`: who makes what stays on the host. Throws EngineError("CUDA") where there is no such device, or the library cannot be opened.
  CudaDevice(const CudaOptions& options, std::shared_ptr<HostTeam> host);
  /// Cancels a run in progress (its outcome: ENGINE) and joins the thread.
  ~CudaDevice() override;

  const Kernels& kernels() const override { return api_.kernels(); }
  int threads() const override { return 1; }
  std::shared_ptr<Memory> allocate(std::size_t bytes, bool on_host) override;
  std::shared_ptr<std::uint8_t> host_view(const std::shared_ptr<Memory>& memory) override;
  bool is_host() const override { return false; }
  std::shared_ptr<HostTeam> host_team() override { return host_; }
  void read(const Memory& from, std::size_t offset, void* to, std::size_t bytes) override;
  void write(const Memory& to, std::size_t offset, const void* from, std::size_t bytes) override;
  void copy(const Memory& from, std::size_t from_offset, const Memory& to, std::size_t to_offset, std::size_t bytes) override;
  std::string place() override;
  std::vector<std::uint8_t> share(const Memory& memory) override;
  std::shared_ptr<Memory> open_shared(const std::vector<std::uint8_t>& handle, std::size_t bytes) override;
  std::string join(const std::shared_ptr<Communicator>& group, double timeout_ms) override;
  void pass(Communicator& group, const Message& message) override;
  void prepare(Program& program) override;
  void start(std::shared_ptr<Program> program, const RunOptions& options, std::function<void(Outcome)> done) override;
  void cancel(const std::string& reason) override;
  std::vector<std::string> choices() override;

 private:
  /// Host copies by the device memory that they are of.
  struct Mirrors {
    std::mutex mutex;
    std::map<const void*, std::shared_ptr<std::uint8_t>> of;
  };
  struct Job {
    std::shared_ptr<Program> program;
    RunOptions options;
    std::function<void(Outcome)> done;
  };
  void thread_main();
  Outcome run(const Job& job);

  const CudaApi& api_;
  const std::shared_ptr<HostTeam> host_;
  std::shared_ptr<void> handle_;  // memories hold it too
  const std::shared_ptr<Mirrors> mirrors_ = std::make_shared<Mirrors>();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<Job> next_;
  bool busy_ = false;
  bool stopping_ = false;
  std::string cancelled_;
  std::thread thread_;
};

}  // namespace raylite

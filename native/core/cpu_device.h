// The CPU as a device: an executor and the kernels of one instruction set.
#pragma once
#include <unistd.h>

#include <cstring>

#include "core/device.h"
#include "core/error.h"
#include "core/executor.h"
#include "core/machine.h"

namespace raylite {

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, bool pin, const Kernels& kernels) : threads_(threads), kernels_(kernels), executor_(threads, pin) {}

  const Kernels& kernels() const override { return kernels_; }
  int threads() const override { return threads_; }
  std::shared_ptr<Memory> allocate(std::size_t bytes, bool) override { return std::make_shared<Memory>(bytes); }
  std::shared_ptr<std::uint8_t> host_view(const std::shared_ptr<Memory>& memory) override { return {memory, memory->data()}; }
  bool is_host() const override { return true; }
  void read(const Memory& from, std::size_t offset, void* to, std::size_t bytes) override {
    std::memcpy(to, from.data() + offset, bytes);
  }
  void write(const Memory& to, std::size_t offset, const void* from, std::size_t bytes) override {
    std::memcpy(to.data() + offset, from, bytes);
  }
  void copy(const Memory& from, std::size_t from_offset, const Memory& to, std::size_t to_offset, std::size_t bytes) override {
    std::memcpy(to.data() + to_offset, from.data() + from_offset, bytes);
  }
  std::string place() override { return "process " + std::to_string(getpid()) + " of machine " + machine_name(); }
  std::vector<std::uint8_t> share(const Memory&) override { return {}; }  // its pages are this process's own
  std::shared_ptr<Memory> open_shared(const std::vector<std::uint8_t>&, std::size_t) override {
    throw EngineError("ENGINE", "memory of a CPU is shared within its process alone");
  }
  std::string join(const std::shared_ptr<Communicator>&, double) override { return "the device's memory is the host's"; }
  void pass(Communicator& group, const Message& message) override {
    group.send_receive(transfer_of(message.memory->data() + message.offset, message.bytes, message.peer, message.is_sent));
  }
  void prepare(Program&) override {}
  void start(std::shared_ptr<Program> program, const RunOptions& options, std::function<void(Outcome)> done) override {
    executor_.start(std::move(program), options, std::move(done));
  }
  void cancel(const std::string& reason) override { executor_.cancel(reason); }

 private:
  const int threads_;
  const Kernels& kernels_;
  Executor executor_;
};

}  // namespace raylite

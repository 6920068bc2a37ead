// Where programs run: memory, kernels, and what runs a program on them. The CPU is one (core/cpu_device.h), a GPU behind a
// library of its own another (core/cuda_device.h). An op's contract and its checks are the same for all of them.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "core/kernels.h"
#include "core/memory.h"
#include "core/program.h"

namespace raylite {

class HostTeam;

/// How a run ended. `code` is empty when it went well, else ENGINE or COMM (then `rank` is the late or dead one, or -1).
struct Outcome {
  std::string code;
  std::string message;
  int rank = -1;
  std::vector<double> seconds;  // of each instruction, when profiled
  Finding finding;              // when checked
};

/// What a run does beside its instructions. Nothing of it costs anything when off.
struct RunOptions {
  bool profile = false;     // take the seconds of each instruction
  bool check = false;       // look for the first output that holds a number that is not finite, and go on: peers may be in the same run
  std::uint32_t jitter = 0;  // not 0: late at random before each instruction, drawn from this seed
};

/// Bytes of a device's memory on their way to a rank of a group, or from it.
struct Message {
  const Memory* memory;
  std::size_t offset, bytes;
  int peer;
  bool is_sent;
};

class Device {
 public:
  virtual ~Device() = default;
  /// What ops are bound to.
  virtual const Kernels& kernels() const = 0;
  /// Of a team of the compute stream: what kernels are asked for their workspace with.
  virtual int threads() const = 0;
  /// Zeroed; `on_host`: memory of the host that copies go to and from. Throws EngineError("ENGINE") when there is no such memory.
  virtual std::shared_ptr<Memory> allocate(std::size_t bytes, bool on_host = false) = 0;
  /// The memory as the host sees it: itself, or a copy that every run of a program over it takes along both ways.
  virtual std::shared_ptr<std::uint8_t> host_view(const std::shared_ptr<Memory>& memory) = 0;
  /// Whether memory is the host's own.
  virtual bool is_host() const = 0;
  /// Who makes what is on the stream kHost; null where the device is the host.
  virtual std::shared_ptr<HostTeam> host_team() { return nullptr; }
  /// Copies to and from the host, between runs. From any thread.
  virtual void read(const Memory& from, std::size_t offset, void* to, std::size_t bytes) = 0;
  virtual void write(const Memory& to, std::size_t offset, const void* from, std::size_t bytes) = 0;
  /// Copies on the device; the two places do not overlap.
  virtual void copy(const Memory& from, std::size_t from_offset, const Memory& to, std::size_t to_offset, std::size_t bytes) = 0;
  /// Where its memory lies: what a device shares can be used by those of the same place.
  virtual std::string place() = 0;
  /// What another process of the place opens memory of this device by; empty: none can. Throws EngineError.
  virtual std::vector<std::uint8_t> share(const Memory& memory) = 0;
  /// Memory that another process shares, which must keep it until this one has given it back. Throws EngineError.
  virtual std::shared_ptr<Memory> open_shared(const std::vector<std::uint8_t>& handle, std::size_t bytes) = 0;
  /// Makes the collectives of `group` in programs that are loaded from then on the device's own, if it has any. All ranks of the group
  /// must call it; waits for them. `timeout_ms` limits how long a rank waits in one of them. Returns why they go through memory of the
  /// host, or nothing. Throws CommError.
  virtual std::string join(const std::shared_ptr<Communicator>& group, double timeout_ms) = 0;
  /// Passes a message and waits until it has left or arrived: by the device's own ways where it has joined the group, else through the
  /// host. From any thread, beside runs; one at a time per group, which programs do not use. Throws CommError or EngineError.
  virtual void pass(Communicator& group, const Message& message) = 0;
  /// Called once with a program that load_program() has bound.
  virtual void prepare(Program& program) = 0;
  /// Starts a run; `done` is called from a thread of the device when it is through with the program.
  /// Throws EngineError("ENGINE") while another run is in progress.
  virtual void start(std::shared_ptr<Program> program, const RunOptions& options, std::function<void(Outcome)> done) = 0;
  /// Ends a run in progress as soon as it can, with ENGINE and this reason. Does not wait.
  virtual void cancel(const std::string& reason) = 0;
  /// What it has chosen between where there was a choice, as lines for people.
  virtual std::vector<std::string> choices() { return {}; }
};

}  // namespace raylite

// A plan bound to memory, kernels and communicators: what an executor runs. Built once by load_program().
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "core/memory.h"
#include "core/plan.h"
#include "core/team.h"
#include "io/swap_file.h"

namespace raylite {

class Device;

/// An op's checked arguments and the kernel that takes them.
struct Bound {
  std::shared_ptr<const void> arguments;
  void (*run)(const void* arguments, const Team& team) = nullptr;
  std::size_t workspace_bytes = 0;
};

/// What an instruction leaves for others.
struct Output {
  std::string name;
  const std::uint8_t* data;
  DType dtype;
  std::int64_t elements;
};

struct Instruction {
  std::string op;
  std::string path;
  Stream stream = Stream::kCompute;
  Bound bound;
  std::vector<Output> outputs;  // but for workspaces, which hold nothing afterwards
  std::uint32_t ordinal = 0;    // its place in its stream
  std::uint32_t waits[kStreams] = {};  // how many instructions of each other stream must have finished before it starts
  bool is_waiting = false;             // for any
  /// For a device whose own kernels have nothing to do with it: of the streams kDisk and kHost. False with the reason; does not throw.
  bool (*run_on_host)(const Instruction&, std::string& failure) = nullptr;
};

/// The first instruction of a run that left a number which is not finite.
struct Finding {
  std::int64_t instruction = -1;  // none
  std::string message;

  /// Streams run side by side: of several findings that of the lowest instruction counts.
  void note(std::size_t index, const Instruction& at, const Output& output, std::int64_t element);
};

struct Program {
  std::vector<Instruction> instructions;
  std::vector<std::uint32_t> streams[kStreams];  // instruction numbers in order
  std::vector<std::shared_ptr<Memory>> memories;
  std::vector<std::shared_ptr<Communicator>> communicators;
  std::vector<std::shared_ptr<SwapFile>> files;
  std::shared_ptr<Memory> workspaces[kStreams];
  std::shared_ptr<void> prepared;  // what the device keeps of it
};

/// Decodes and checks everything once. Throws EngineError PLAN (bytes, ranges, aliasing) or SHAPE (an op's contract),
/// naming instruction, op and model path. memories[i] backs plan buffer i, communicators[g] is group g, or null; files[f] is file f.
std::shared_ptr<Program> load_program(const std::uint8_t* plan, std::size_t plan_bytes,
                                      std::vector<std::shared_ptr<Memory>> memories,
                                      std::vector<std::shared_ptr<Communicator>> communicators,
                                      std::vector<std::shared_ptr<SwapFile>> files,
                                      Device& device);

/// "instruction 12 (linear, layers.3.attn.qkv)"
inline std::string describe(std::size_t index, const std::string& op, const std::string& path) {
  return "instruction " + std::to_string(index) + " (" + op + (path.empty() ? "" : ", " + path) + ")";
}

inline void Finding::note(std::size_t index, const Instruction& at, const Output& output, std::int64_t element) {
  if (instruction >= 0 && instruction <= static_cast<std::int64_t>(index)) return;
  instruction = static_cast<std::int64_t>(index);
  message = describe(index, at.op, at.path) + ": " + output.name + "[" + std::to_string(element) + "] is not finite";
}

}  // namespace raylite

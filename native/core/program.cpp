// Binds a decoded plan: tensors to memory, ops to kernels, waits to counts. Sizes the workspaces, so that a run allocates nothing.
#include "core/program.h"

#include <algorithm>

#include "core/binder.h"
#include "core/device.h"
#include "core/error.h"
#include "core/host_team.h"
#include "core/registry.h"

namespace raylite {

namespace {

bool run_on_host(const Instruction& instruction, std::string& failure) {
  try {
    instruction.bound.run(instruction.bound.arguments.get(), Team{});
    return true;
  } catch (const std::exception& error) {
    failure = error.what();
    return false;
  }
}

/// What the device makes touches no memory of the host, and what the host makes no other.
void check_side(std::size_t index, const PlanInstruction& row, const Plan& plan, const Program& program, bool is_by_host) {
  for (const auto* list : {&row.inputs, &row.outputs}) {
    for (const std::uint32_t i : *list) {
      const std::uint32_t buffer = plan.tensors[i].buffer;
      if (program.memories[buffer]->is_on_host() == is_by_host) continue;
      throw EngineError("PLAN", describe(index, row.op, row.path) + ": is made by the " + (is_by_host ? "host" : "device") + ", but buffer " +
                                    std::to_string(buffer) + " \"" + plan.buffers[buffer].name + "\" lies on the " +
                                    (is_by_host ? "device" : "host"));
    }
  }
}

/// Has the instructions of the stream kHost made by the threads of the host.
void give_to_host(Program& program, const std::shared_ptr<HostTeam>& host) {
  constexpr auto kHost = static_cast<std::size_t>(Stream::kHost);
  if (program.streams[kHost].empty()) return;
  host->start();
  for (const std::uint32_t i : program.streams[kHost]) {
    Bound& bound = program.instructions[i].bound;
    bound = by_host_team(host, std::move(bound), program.workspaces[kHost]);
  }
}

}  // namespace

std::shared_ptr<Program> load_program(const std::uint8_t* bytes, std::size_t size,
                                      std::vector<std::shared_ptr<Memory>> memories,
                                      std::vector<std::shared_ptr<Communicator>> communicators,
                                      std::vector<std::shared_ptr<SwapFile>> files,
                                      Device& device) {
  const std::shared_ptr<HostTeam> host = device.host_team();
  const Plan plan = decode_plan(bytes, size, host == nullptr);
  if (memories.size() != plan.buffers.size()) {
    throw EngineError("PLAN", "plan: has " + std::to_string(plan.buffers.size()) + " buffers, " +
                                  std::to_string(memories.size()) + " given");
  }
  for (std::size_t i = 0; i < memories.size(); i++) {
    if (memories[i]->bytes() < plan.buffers[i].bytes) {
      throw EngineError("PLAN", "plan: buffer " + std::to_string(i) + " \"" + plan.buffers[i].name + "\" needs " +
                                    std::to_string(plan.buffers[i].bytes) + " bytes, " +
                                    std::to_string(memories[i]->bytes()) + " given");
    }
  }

  auto program = std::make_shared<Program>();
  program->memories = std::move(memories);
  program->communicators = std::move(communicators);
  program->files = std::move(files);
  const auto resolve = [&](const std::vector<std::uint32_t>& indices) {
    std::vector<Tensor> tensors;
    for (const std::uint32_t i : indices) {
      const PlanTensor& row = plan.tensors[i];
      tensors.push_back({program->memories[row.buffer]->data() + row.offset_bytes, &row});
    }
    return tensors;
  };

  std::size_t workspace_bytes[kStreams] = {};
  for (std::size_t i = 0; i < plan.instructions.size(); i++) {
    const PlanInstruction& row = plan.instructions[i];
    const BindOp bind = find_op(row.op);
    if (bind == nullptr) throw EngineError("PLAN", describe(i, row.op, row.path) + ": there is no such op");
    const auto stream = static_cast<std::uint32_t>(row.stream);
    const bool is_by_host = row.stream == Stream::kHost;
    if (host && (is_by_host || row.stream == Stream::kCompute)) check_side(i, row, plan, *program, is_by_host);
    const int threads = is_by_host ? host->threads() : row.stream == Stream::kCompute ? device.threads() : 1;
    Binder binder(i, row, resolve(row.inputs), resolve(row.outputs), *program, threads);
    Instruction instruction;
    instruction.op = row.op;
    instruction.path = row.path;
    instruction.stream = row.stream;
    instruction.bound = bind(binder, is_by_host ? host->kernels() : device.kernels());
    instruction.outputs = binder.taken_outputs();
    if (row.stream == Stream::kDisk || is_by_host) instruction.run_on_host = run_on_host;
    instruction.ordinal = static_cast<std::uint32_t>(program->streams[stream].size());
    program->streams[stream].push_back(static_cast<std::uint32_t>(i));
    workspace_bytes[stream] = std::max(workspace_bytes[stream], instruction.bound.workspace_bytes);
    program->instructions.push_back(std::move(instruction));
  }
  // A stream finishes in order: waiting for several is waiting for the last of them.
  for (std::size_t i = 0; i < plan.instructions.size(); i++) {
    for (const std::uint32_t wait : plan.instructions[i].waits) {
      const Instruction& other = program->instructions[wait];
      auto& count = program->instructions[i].waits[static_cast<std::uint32_t>(other.stream)];
      count = std::max(count, other.ordinal + 1);
      program->instructions[i].is_waiting = true;
    }
  }
  for (std::uint32_t stream = 0; stream < kStreams; stream++) {
    const bool is_on_host = stream == static_cast<std::uint32_t>(Stream::kHost);
    if (workspace_bytes[stream] > 0) program->workspaces[stream] = device.allocate(workspace_bytes[stream], is_on_host);
  }
  give_to_host(*program, host);
  device.prepare(*program);
  return program;
}

}  // namespace raylite

// Binds a decoded plan: tensors to memory, ops to kernels, waits to counts. Sizes the workspaces, so that a run allocates nothing.
#include "core/program.h"

#include <algorithm>

#include "core/binder.h"
#include "core/device.h"
#include "core/error.h"
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

}  // namespace

std::shared_ptr<Program> load_program(const std::uint8_t* bytes, std::size_t size,
                                      std::vector<std::shared_ptr<Memory>> memories,
                                      std::vector<std::shared_ptr<Communicator>> communicators,
                                      std::vector<std::shared_ptr<SwapFile>> files,
                                      Device& device) {
  const Plan plan = decode_plan(bytes, size);
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
    Binder binder(i, row, resolve(row.inputs), resolve(row.outputs), *program,
                  row.stream == Stream::kCompute ? device.threads() : 1);
    Instruction instruction;
    instruction.op = row.op;
    instruction.path = row.path;
    instruction.stream = row.stream;
    instruction.bound = bind(binder, device.kernels());
    instruction.outputs = binder.taken_outputs();
    if (row.stream == Stream::kDisk) instruction.run_on_host = run_on_host;
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
    if (workspace_bytes[stream] > 0) program->workspaces[stream] = device.allocate(workspace_bytes[stream]);
  }
  device.prepare(*program);
  return program;
}

}  // namespace raylite

// Decodes a plan. Bytes are hostile until proven otherwise: every read goes through a bounds-checked section.
#include "core/plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace raylite {

namespace {

constexpr std::uint32_t kMagic = 0x504C4C52;  // "RLLP"
constexpr std::uint32_t kVersion = 2;
constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 40;
constexpr std::uint32_t kListMax = 4096;  // of one instruction: keeps hostile rows from multiplying the plan's size

[[noreturn]] void fail(const std::string& message) { throw EngineError("PLAN", "plan: " + message); }

/// Rows of a fixed size inside the plan.
class Section {
 public:
  Section(const std::uint8_t* bytes, std::size_t row_bytes) : bytes_(bytes), row_bytes_(row_bytes) {}
  template <class T>
  T get(std::size_t row, std::size_t offset) const {
    T value;
    std::memcpy(&value, bytes_ + row * row_bytes_ + offset, sizeof(T));
    return value;
  }

 private:
  const std::uint8_t* bytes_;
  std::size_t row_bytes_;
};

/// Hands out consecutive 8-byte aligned sections of the bytes.
class Cutter {
 public:
  Cutter(const std::uint8_t* bytes, std::size_t size) : bytes_(bytes), size_(size) {}
  Section cut(const char* name, std::uint64_t rows, std::uint64_t row_bytes) {
    const std::uint64_t length = rows * row_bytes;  // rows < 2^32, row_bytes <= 56: no overflow
    if (length > size_ - at_) {
      fail(std::string(name) + " need " + std::to_string(length) + " bytes at offset " + std::to_string(at_) +
           ", the plan has " + std::to_string(size_));
    }
    const Section section(bytes_ + at_, row_bytes);
    at_ = std::min<std::uint64_t>(size_, at_ + (length + 7) / 8 * 8);
    return section;
  }
  std::uint64_t at() const { return at_; }

 private:
  const std::uint8_t* bytes_;
  std::uint64_t size_;
  std::uint64_t at_ = 0;
};

struct Header {
  std::uint32_t magic, version, buffers, tensors, instructions, indices, attributes, string_bytes;
};

/// All streams advance as far as their waits allow; what is then left can never run.
void check_waits(const Plan& plan) {
  const std::size_t count = plan.instructions.size();
  std::vector<std::uint32_t> order[kStreams];
  for (std::size_t i = 0; i < count; i++) {
    order[static_cast<std::uint32_t>(plan.instructions[i].stream)].push_back(static_cast<std::uint32_t>(i));
  }
  std::vector<bool> done(count, false);
  std::size_t next[kStreams] = {};
  for (bool moved = true; moved;) {
    moved = false;
    for (std::uint32_t stream = 0; stream < kStreams; stream++) {
      while (next[stream] < order[stream].size()) {
        const std::uint32_t index = order[stream][next[stream]];
        bool ready = true;
        for (const std::uint32_t wait : plan.instructions[index].waits) ready = ready && done[wait];
        if (!ready) break;
        done[index] = true;
        next[stream]++;
        moved = true;
      }
    }
  }
  for (std::uint32_t stream = 0; stream < kStreams; stream++) {
    if (next[stream] < order[stream].size()) {
      const std::uint32_t index = order[stream][next[stream]];
      fail("instruction " + std::to_string(index) + " (" + plan.instructions[index].op +
           ") waits for an instruction that waits for it");
    }
  }
}

/// What is on the stream kHost goes to the kernels' own, whose order stands for the waits between the two.
void join_host_stream(Plan& plan) {
  for (PlanInstruction& instruction : plan.instructions) {
    if (instruction.stream == Stream::kHost) instruction.stream = Stream::kCompute;
  }
  for (PlanInstruction& instruction : plan.instructions) {
    auto& waits = instruction.waits;
    const auto is_of_own = [&](std::uint32_t wait) { return plan.instructions[wait].stream == instruction.stream; };
    waits.erase(std::remove_if(waits.begin(), waits.end(), is_of_own), waits.end());
  }
}

}  // namespace

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
  }
  return "?";
}

Plan decode_plan(const std::uint8_t* bytes, std::size_t size, bool is_host) {
  Cutter cutter(bytes, size);
  const Section head = cutter.cut("header", 1, sizeof(Header));
  const Header header = head.get<Header>(0, 0);
  if (header.magic != kMagic) fail("the first four bytes are not \"RLLP\"");
  if (header.version != kVersion) {
    fail("version " + std::to_string(header.version) + ", this build reads version " + std::to_string(kVersion));
  }
  const Section buffers = cutter.cut("buffers", header.buffers, 16);
  const Section tensors = cutter.cut("tensors", header.tensors, 56);
  const Section instructions = cutter.cut("instructions", header.instructions, 56);
  const Section indices = cutter.cut("indices", header.indices, 4);
  const Section attributes = cutter.cut("attributes", header.attributes, 8);
  const std::uint64_t strings_at = cutter.at();
  cutter.cut("strings", header.string_bytes, 1);
  if (cutter.at() != size) fail(std::to_string(size - cutter.at()) + " bytes after the last section");

  const auto text = [&](std::uint32_t offset, std::uint32_t length, const char* what, std::size_t row) {
    if (std::uint64_t{offset} + length > header.string_bytes || length > kListMax) {
      fail(std::string(what) + " " + std::to_string(row) + ": its name lies outside of the strings, or is too long");
    }
    return std::string(reinterpret_cast<const char*>(bytes) + strings_at + offset, length);
  };
  const auto slice = [&](std::uint32_t start, std::uint32_t length, std::uint32_t limit, std::uint32_t value_limit,
                         const char* what, std::size_t row) {
    const std::string who = "instruction " + std::to_string(row) + ": " + what;
    if (std::uint64_t{start} + length > limit || length > kListMax) fail(who + " lie outside of the indices");
    std::vector<std::uint32_t> values(length);
    for (std::uint32_t i = 0; i < length; i++) {
      values[i] = indices.get<std::uint32_t>(start + i, 0);
      if (values[i] >= value_limit) {
        fail(who + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) + " of " +
             std::to_string(value_limit));
      }
    }
    return values;
  };

  Plan plan;
  plan.buffers.resize(header.buffers);
  for (std::size_t i = 0; i < plan.buffers.size(); i++) {
    plan.buffers[i].bytes = buffers.get<std::uint64_t>(i, 0);
    plan.buffers[i].name = text(buffers.get<std::uint32_t>(i, 8), buffers.get<std::uint32_t>(i, 12), "buffer", i);
  }

  plan.tensors.resize(header.tensors);
  for (std::size_t i = 0; i < plan.tensors.size(); i++) {
    PlanTensor& tensor = plan.tensors[i];
    const std::string who = "tensor " + std::to_string(i);
    tensor.buffer = tensors.get<std::uint32_t>(i, 0);
    const auto dtype = tensors.get<std::uint32_t>(i, 4);
    tensor.rank = tensors.get<std::uint32_t>(i, 8);
    tensor.offset_bytes = tensors.get<std::uint64_t>(i, 16);
    if (tensor.buffer >= plan.buffers.size()) {
      fail(who + ": buffer " + std::to_string(tensor.buffer) + " of " + std::to_string(plan.buffers.size()));
    }
    if (dtype > 4) fail(who + ": dtype " + std::to_string(dtype) + " is none of 0 f32, 1 i32, 2 u8, 3 bf16, 4 f16");
    tensor.dtype = static_cast<DType>(dtype);
    if (tensor.rank > 4) fail(who + ": rank " + std::to_string(tensor.rank) + ", at most 4");
    if (tensors.get<std::uint32_t>(i, 12) != 0) fail(who + ": its reserved field is not zero");
    std::uint64_t elements = 1;
    for (std::uint32_t axis = 0; axis < 4; axis++) {
      const auto dim = tensors.get<std::uint64_t>(i, 24 + 8 * axis);
      if (axis >= tensor.rank) {
        if (dim > 1) fail(who + ": dim " + std::to_string(axis) + " beyond its rank is not 0 or 1");
        continue;
      }
      if (dim < 1 || dim > kElementsMax / elements) {
        fail(who + ": dim " + std::to_string(axis) + " is " + std::to_string(dim) + ", at least 1 and at most " +
             std::to_string(kElementsMax) + " elements in all");
      }
      elements *= dim;
      tensor.dims[axis] = static_cast<std::int64_t>(dim);
    }
    tensor.elements = static_cast<std::int64_t>(elements);
    tensor.bytes = elements * dtype_bytes(tensor.dtype);
    const std::uint64_t limit = plan.buffers[tensor.buffer].bytes;
    if (tensor.offset_bytes % dtype_bytes(tensor.dtype) != 0) {
      fail(who + ": offset " + std::to_string(tensor.offset_bytes) + " is not aligned to its elements");
    }
    if (tensor.offset_bytes > limit || tensor.bytes > limit - tensor.offset_bytes) {
      fail(who + ": " + std::to_string(tensor.bytes) + " bytes at " + std::to_string(tensor.offset_bytes) +
           " do not fit buffer " + std::to_string(tensor.buffer) + " \"" + plan.buffers[tensor.buffer].name + "\" of " +
           std::to_string(limit) + " bytes");
    }
  }

  plan.instructions.resize(header.instructions);
  for (std::size_t i = 0; i < plan.instructions.size(); i++) {
    PlanInstruction& instruction = plan.instructions[i];
    const auto field = [&](std::size_t n) { return instructions.get<std::uint32_t>(i, 4 * n); };
    const std::string who = "instruction " + std::to_string(i);
    instruction.op = text(field(0), field(1), "instruction", i);
    if (field(2) >= kStreams) fail(who + ": stream " + std::to_string(field(2)) + " of " + std::to_string(kStreams));
    instruction.stream = static_cast<Stream>(field(2));
    instruction.inputs = slice(field(3), field(4), header.indices, header.tensors, "inputs", i);
    instruction.outputs = slice(field(5), field(6), header.indices, header.tensors, "outputs", i);
    if (std::uint64_t{field(7)} + field(8) > header.attributes || field(8) > kListMax) {
      fail(who + ": attributes lie outside of their section");
    }
    instruction.attributes.resize(field(8));
    for (std::uint32_t a = 0; a < field(8); a++) {
      instruction.attributes[a] = attributes.get<double>(field(7) + a, 0);
      if (!std::isfinite(instruction.attributes[a])) fail(who + ": attribute " + std::to_string(a) + " is not finite");
    }
    instruction.waits = slice(field(9), field(10), header.indices, header.instructions, "waits", i);
    instruction.path = text(field(11), field(12), "instruction", i);
    if (field(13) != 0) fail(who + ": its reserved field is not zero");
  }
  for (std::size_t i = 0; i < plan.instructions.size(); i++) {
    for (const std::uint32_t wait : plan.instructions[i].waits) {
      if (plan.instructions[wait].stream == plan.instructions[i].stream) {
        fail("instruction " + std::to_string(i) + ": waits for instruction " + std::to_string(wait) +
             " of its own stream");
      }
    }
  }
  if (is_host) join_host_stream(plan);
  check_waits(plan);
  return plan;
}

}  // namespace raylite

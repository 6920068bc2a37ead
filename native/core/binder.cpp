// Checks of single arguments, and of which bytes an instruction may share between them.
#include "core/binder.h"

#include <cmath>
#include <cstring>

#include "core/error.h"

namespace raylite {

namespace {

std::string show(double value) {
  std::string text = std::to_string(value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string show_dims(const PlanTensor& tensor) {
  std::string text = "[";
  for (std::uint32_t i = 0; i < tensor.rank; i++) text += (i ? ", " : "") + std::to_string(tensor.dims[i]);
  return text + "]";
}

}  // namespace

Binder::Binder(std::size_t index, const PlanInstruction& instruction, std::vector<Tensor> inputs,
               std::vector<Tensor> outputs, const Program& program, int threads)
    : index_(index),
      instruction_(instruction),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      program_(program),
      threads_(threads) {}

void Binder::fail_shape(const std::string& message) const {
  throw EngineError("SHAPE", describe(index_, instruction_.op, instruction_.path) + ": " + message);
}

std::vector<Output> Binder::taken_outputs() const {
  std::vector<Output> result;
  std::size_t next = 0;
  for (const Taken& taken : taken_) {
    if (!taken.is_output) continue;
    const std::int64_t elements = outputs_[next++].row->elements;
    if (std::strcmp(taken.name, "workspace") != 0) result.push_back({taken.name, taken.begin, taken.dtype, elements});
  }
  return result;
}

const Tensor& Binder::next(const char* name, bool is_output) {
  auto& list = is_output ? outputs_ : inputs_;
  auto& at = is_output ? next_output_ : next_input_;
  if (at == list.size()) {
    fail_shape(std::string(is_output ? "output \"" : "input \"") + name + "\" is missing: " + std::to_string(at) +
               " given");
  }
  const Tensor& tensor = list[at++];
  taken_.push_back({name, tensor.data, tensor.data + tensor.row->bytes, is_output, tensor.row->dtype});
  return tensor;
}

DType Binder::storage() const {
  for (const auto* list : {&inputs_, &outputs_}) {
    for (const Tensor& tensor : *list) {
      const DType dtype = tensor.row->dtype;
      if (dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16) return dtype;
    }
  }
  return DType::kF32;
}

/// Names the operand that the storage type was read off, unless the tensor at fault is itself that operand.
void Binder::expect_dtype(const std::string& who, const Tensor& tensor, DType dtype) {
  if (tensor.row->dtype == dtype) return;
  std::string expected = dtype_name(dtype);
  if (dtype == storage()) {
    for (const Taken& taken : taken_) {
      if (taken.dtype == dtype) {
        expected += std::string(" as \"") + taken.name + "\" is";
        break;
      }
    }
  }
  fail_shape(who + " is " + dtype_name(tensor.row->dtype) + ", expected " + expected);
}

std::uint8_t* Binder::take(const char* name, Dims dims, bool is_output, DType dtype) {
  const Tensor& tensor = next(name, is_output);
  const std::string who = std::string(is_output ? "output \"" : "input \"") + name + "\"";
  expect_dtype(who, tensor, dtype);
  bool fits = tensor.row->rank == dims.size();
  std::uint32_t axis = 0;
  if (fits) {
    for (const Dim* dim : dims) {
      fits = fits && (dim->value < 0 || dim->value == tensor.row->dims[axis]);
      axis++;
    }
  }
  if (!fits) {
    std::string expected;
    for (const Dim* dim : dims) {
      expected += (expected.empty() ? "" : ", ") + std::string(dim->letter);
      if (dim->value >= 0 && dim->letter != std::to_string(dim->value)) expected += "=" + std::to_string(dim->value);
    }
    fail_shape(who + " has dims " + show_dims(*tensor.row) + ", expected [" + expected + "]");
  }
  axis = 0;
  for (Dim* dim : dims) {
    // A letter that appears twice in one tensor must agree with itself.
    if (dim->value >= 0 && dim->value != tensor.row->dims[axis]) fail_shape(who + " has unequal dims " + dim->letter);
    dim->value = tensor.row->dims[axis++];
  }
  return tensor.data;
}

std::uint8_t* Binder::take_flat(const char* name, Dim& count, bool is_output, DType dtype) {
  const Tensor& tensor = next(name, is_output);
  const std::string who = std::string(is_output ? "output \"" : "input \"") + name + "\"";
  expect_dtype(who, tensor, dtype);
  if (count.value >= 0 && count.value != tensor.row->elements) {
    fail_shape(who + " has " + std::to_string(tensor.row->elements) + " elements, expected " + count.letter + "=" +
               std::to_string(count.value));
  }
  count.value = tensor.row->elements;
  return tensor.data;
}

double Binder::attribute(const char* name) {
  if (next_attribute_ == instruction_.attributes.size()) {
    fail_shape(std::string("attribute \"") + name + "\" is missing: " + std::to_string(next_attribute_) + " given");
  }
  return instruction_.attributes[next_attribute_++];
}

double Binder::number(const char* name) { return attribute(name); }

bool Binder::flag(const char* name) { return integer(name, 0, 1) != 0; }

std::int64_t Binder::integer(const char* name, std::int64_t low, std::int64_t high) {
  const double value = attribute(name);
  if (value != std::floor(value) || value < static_cast<double>(low) || value > static_cast<double>(high)) {
    fail_shape(std::string("attribute \"") + name + "\" is " + show(value) + ", expected an integer from " +
               std::to_string(low) + " to " + std::to_string(high));
  }
  return static_cast<std::int64_t>(value);
}

std::shared_ptr<Communicator> Binder::group(const char* name) {
  if (program_.communicators.empty()) fail_shape("needs a communicator, the program was loaded without any");
  const std::int64_t index = integer(name, 0, static_cast<std::int64_t>(program_.communicators.size()) - 1);
  const std::shared_ptr<Communicator>& communicator = program_.communicators[static_cast<std::size_t>(index)];
  if (!communicator) fail_shape("needs a communicator, the program was loaded without that of group " + std::to_string(index));
  return communicator;
}

std::shared_ptr<SwapFile> Binder::file(const char* name) {
  if (program_.files.empty()) fail_shape("needs a file, the program was loaded without any");
  const auto index = static_cast<std::size_t>(integer(name, 0, static_cast<std::int64_t>(program_.files.size()) - 1));
  if (!program_.files[index]) fail_shape("needs file " + std::to_string(index) + ", the program was loaded without it");
  return program_.files[index];
}

const Binder::Taken& Binder::find(const char* name, bool is_output) const {
  for (const Taken& taken : taken_) {
    if (taken.is_output == is_output && std::strcmp(taken.name, name) == 0) return taken;
  }
  fail_shape(std::string("\"") + name + "\" is missing");
}

void Binder::must_share(const char* output, const char* input) {
  if (find(output, true).begin != find(input, false).begin) {
    fail_shape(std::string("output \"") + output + "\" must lie on the bytes of input \"" + input + "\"");
  }
  may_share(output, input);
}

bool Binder::allows(const Taken& output, const Taken& other) const {
  for (const auto& pair : overlapping_) {
    if ((pair.first == output.name && pair.second == other.name) ||
        (pair.first == other.name && pair.second == output.name)) {
      return true;
    }
  }
  if (other.is_output || output.begin != other.begin || output.end != other.end) return false;
  for (const auto& pair : shared_) {
    if (pair.first == output.name && pair.second == other.name) return true;
  }
  return false;
}

void Binder::finish() {
  if (inputs_left() != 0) fail_shape("takes " + std::to_string(next_input_) + " inputs, " + std::to_string(inputs_.size()) + " given");
  if (outputs_left() != 0) fail_shape("takes " + std::to_string(next_output_) + " outputs, " + std::to_string(outputs_.size()) + " given");
  if (next_attribute_ != instruction_.attributes.size()) {
    fail_shape("takes " + std::to_string(next_attribute_) + " attributes, " +
               std::to_string(instruction_.attributes.size()) + " given");
  }
  for (std::size_t i = 0; i < taken_.size(); i++) {
    for (std::size_t j = 0; j < taken_.size(); j++) {
      const Taken& output = taken_[i];
      const Taken& other = taken_[j];
      if (i == j || !output.is_output || (other.is_output && j < i)) continue;
      const bool overlap = output.begin < other.end && other.begin < output.end;
      if (overlap && !allows(output, other)) {
        throw EngineError("PLAN", describe(index_, instruction_.op, instruction_.path) + ": output \"" + output.name +
                                      "\" overlaps " + (other.is_output ? "output \"" : "input \"") + other.name + "\"");
      }
    }
  }
}

}  // namespace raylite

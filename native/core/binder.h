// How an op's bind function takes its tensors and attributes: in the order of the catalogue, each checked against the
// contract as it is taken. Every mistake is an EngineError that names instruction, op, path, argument and value.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/program.h"
#include "core/storage.h"

namespace raylite {

/// A dimension with the letter of the catalogue: the first tensor that has it sets it, the others must agree.
struct Dim {
  const char* letter;
  std::int64_t value = -1;
  Dim(const char* letter) : letter(letter) {}                                    // NOLINT: literals read as dims
  Dim(const char* letter, std::int64_t value) : letter(letter), value(value) {}
};
using Dims = std::initializer_list<Dim*>;

/// A tensor resolved to memory.
struct Tensor {
  std::uint8_t* data;
  const PlanTensor* row;
};

class Binder {
 public:
  Binder(std::size_t index, const PlanInstruction& instruction, std::vector<Tensor> inputs, std::vector<Tensor> outputs,
         const Program& program, int threads);

  /// The storage type of this instance of the op: that of its first operand that holds real numbers.
  DType storage() const;

  // Tensors, in order. `flat` takes any rank and unifies the element count alone. With T: a tensor of the op's storage
  // type; without: always f32.
  template <class T>
  const T* input(const char* name, Dims dims) { return reinterpret_cast<T*>(take(name, dims, false, kDTypeOf<T>)); }
  template <class T>
  const T* flat_input(const char* name, Dim& count) { return reinterpret_cast<T*>(take_flat(name, count, false, kDTypeOf<T>)); }
  template <class T>
  T* output(const char* name, Dims dims) { return reinterpret_cast<T*>(take(name, dims, true, kDTypeOf<T>)); }
  template <class T>
  T* flat_output(const char* name, Dim& count) { return reinterpret_cast<T*>(take_flat(name, count, true, kDTypeOf<T>)); }
  const float* input(const char* name, Dims dims) { return reinterpret_cast<float*>(take(name, dims, false, DType::kF32)); }
  const std::int32_t* ints(const char* name, Dims dims) { return reinterpret_cast<std::int32_t*>(take(name, dims, false, DType::kI32)); }
  const std::uint8_t* bytes(const char* name, Dims dims) { return take(name, dims, false, DType::kU8); }
  std::uint8_t* byte_output(const char* name, Dims dims) { return take(name, dims, true, DType::kU8); }
  const float* flat_input(const char* name, Dim& count) { return reinterpret_cast<float*>(take_flat(name, count, false, DType::kF32)); }
  float* output(const char* name, Dims dims) { return reinterpret_cast<float*>(take(name, dims, true, DType::kF32)); }
  std::int32_t* int_output(const char* name, Dims dims) { return reinterpret_cast<std::int32_t*>(take(name, dims, true, DType::kI32)); }
  float* flat_output(const char* name, Dim& count) { return reinterpret_cast<float*>(take_flat(name, count, true, DType::kF32)); }
  // Where the type is any: of what is only moved, or of reductions.
  const void* flat_input(const char* name, Dim& count, DType type) { return take_flat(name, count, false, type); }
  void* flat_output(const char* name, Dim& count, DType type) { return take_flat(name, count, true, type); }
  /// Of the output that is taken next, if there is one.
  DType output_dtype() const { return outputs_left() > 0 ? outputs_[next_output_].row->dtype : DType::kF32; }
  DType input_dtype(std::size_t at) const { return at < inputs_.size() ? inputs_[at].row->dtype : DType::kF32; }
  DType last_output_dtype() const { return outputs_.empty() ? DType::kF32 : outputs_.back().row->dtype; }
  std::size_t inputs_left() const { return inputs_.size() - next_input_; }
  std::size_t outputs_left() const { return outputs_.size() - next_output_; }
  std::size_t attributes_left() const { return instruction_.attributes.size() - next_attribute_; }

  // Attributes, in order.
  double number(const char* name);
  bool flag(const char* name);
  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high);
  std::shared_ptr<Communicator> group(const char* name);
  std::shared_ptr<SwapFile> file(const char* name);

  /// The output may lie on exactly the bytes of the input ("in place").
  void may_share(const char* output, const char* input) { shared_.emplace_back(output, input); }
  /// The output must lie on the bytes of the input.
  void must_share(const char* output, const char* input);
  /// The two tensors may overlap in any way (fused outputs, slices of collectives); the op checks what it needs.
  void may_overlap(const char* a, const char* b) { overlapping_.emplace_back(a, b); }

  /// Nothing may be left over, and outputs may only share bytes as allowed above.
  void finish();

  /// The outputs that hold something after the op, by name.
  std::vector<Output> taken_outputs() const;

  [[noreturn]] void fail_shape(const std::string& message) const;
  /// "instruction 12 (linear, layers.3.attn.qkv)"
  std::string place() const { return describe(index_, instruction_.op, instruction_.path); }
  int threads() const { return threads_; }

 private:
  struct Taken {
    const char* name;
    const std::uint8_t* begin;
    const std::uint8_t* end;
    bool is_output;
    DType dtype;
  };
  const Tensor& next(const char* name, bool is_output);
  std::uint8_t* take(const char* name, Dims dims, bool is_output, DType dtype);
  std::uint8_t* take_flat(const char* name, Dim& count, bool is_output, DType dtype);
  void expect_dtype(const std::string& who, const Tensor& tensor, DType dtype);
  double attribute(const char* name);
  const Taken& find(const char* name, bool is_output) const;
  bool allows(const Taken& output, const Taken& other) const;

  std::size_t index_;
  const PlanInstruction& instruction_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
  const Program& program_;  // its groups and files
  int threads_;
  std::size_t next_input_ = 0;
  std::size_t next_output_ = 0;
  std::size_t next_attribute_ = 0;
  std::vector<Taken> taken_;
  std::vector<std::pair<std::string, std::string>> shared_;
  std::vector<std::pair<std::string, std::string>> overlapping_;
};

}  // namespace raylite

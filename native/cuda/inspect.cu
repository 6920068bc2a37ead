// Delays, marks, and the search for numbers that are not finite.
#include "cuda/inspect.h"

#include "core/error.h"
#include "cuda/elements.cuh"
#include "cuda/handles.h"

namespace raylite::cuda {

namespace {

__global__ void delay_kernel(unsigned microseconds) {
  for (unsigned i = 0; i < microseconds; i++) __nanosleep(1000);
}

__global__ void mark_kernel(volatile Mark* mark, std::uint32_t place) {
  mark->place = place;
  mark->count = mark->count + 1;
}

/// The first element all of whose exponent's bits are set.
template <class Word>
struct NotFinite {
  const Word* words;
  Word exponent;
  unsigned long long* first;
  template <int W>
  __device__ void at(std::int64_t i) const {
    if ((words[i] & exponent) == exponent) atomicMin(first, static_cast<unsigned long long>(i));
  }
};

template <class Word>
void scan(const Queue& queue, const Output& output, Word exponent, unsigned long long* first) {
  each_element<1>(queue, output.elements, true, NotFinite<Word>{reinterpret_cast<const Word*>(output.data), exponent, first});
}

}  // namespace

void delay(cudaStream_t stream, std::uint32_t seed, std::uint32_t instruction) {
  std::uint32_t hash = seed ^ (instruction * 64);
  hash = (hash ^ (hash >> 16)) * 0x85ebca6bu;
  hash = (hash ^ (hash >> 13)) * 0xc2b2ae35u;
  const Queue queue{stream, nullptr, nullptr, nullptr, nullptr, instruction};
  launch(queue, dim3(1), dim3(1), 0, delay_kernel, (hash ^ (hash >> 16)) % 200);
}

void put_mark(cudaStream_t stream, Mark* mark, std::uint32_t place) {
  const Queue queue{stream, nullptr, nullptr, nullptr, nullptr, 0};
  launch(queue, dim3(1), dim3(1), 0, mark_kernel, mark, place);
}

void look_for_not_finite(cudaStream_t stream, const Instruction& instruction, std::size_t index, Finding& finding) {
  const Queue queue{stream, nullptr, nullptr, nullptr, nullptr, index};
  for (const Output& output : instruction.outputs) {
    DeviceBytes first(sizeof(unsigned long long));
    auto* found = first.as<unsigned long long>();
    RL_CUDA(cudaMemsetAsync(found, 0xff, sizeof(unsigned long long), stream));
    if (output.dtype == DType::kF32) scan(queue, output, std::uint32_t{0x7f800000}, found);
    if (output.dtype == DType::kBF16) scan(queue, output, std::uint16_t{0x7f80}, found);
    if (output.dtype == DType::kF16) scan(queue, output, std::uint16_t{0x7c00}, found);
    unsigned long long at = 0;
    RL_CUDA(cudaMemcpyAsync(&at, found, sizeof(at), cudaMemcpyDeviceToHost, stream));
    RL_CUDA(cudaStreamSynchronize(stream));
    if (at != ~0ull) return finding.note(index, instruction, output, static_cast<std::int64_t>(at));
  }
}

}  // namespace raylite::cuda

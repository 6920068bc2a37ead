// heads_to_parts, parts_to_heads: an element of the parts, or of the rows of heads, is a thread's.
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

/// Where column c of a row of part `part` lies: in q, k or v (0, 1, 2), and in which column there.
struct HeadPlace {
  int of;
  std::int64_t column;
};

template <class Arguments>
__host__ __device__ std::int64_t kv_heads_of_part(const Arguments& a) {
  return a.kv_heads == 0 ? 0 : a.kv_heads < a.parts ? 1 : a.kv_heads / a.parts;
}

template <class Arguments>
__device__ HeadPlace place_of(const Arguments& a, std::int64_t part, std::int64_t c) {
  const std::int64_t own = a.heads / a.parts, kv = kv_heads_of_part(a), head = c / a.head_dim, inside = c % a.head_dim;
  if (head < own) return {0, a.q_layout.offset + (part * own + head) * a.q_layout.head_stride + inside};
  const std::int64_t at = (head - own) % kv + (a.kv_heads < a.parts ? part * a.kv_heads / a.parts : part * kv);
  if (head < own + kv) return {1, a.k_layout.offset + at * a.k_layout.head_stride + inside};
  return {2, a.v_layout.offset + at * a.v_layout.head_stride + inside};
}

template <class Arguments>
std::int64_t width_of(const Arguments& a) { return (a.heads / a.parts + 2 * kv_heads_of_part(a)) * a.head_dim; }

template <class T>
struct ToParts {
  HeadsToPartsArguments<T> a;
  std::int64_t width;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const std::int64_t row = i / width;
    const HeadPlace from = place_of(a, row / a.n, i % width);
    const T* rows = from.of == 0 ? a.q : from.of == 1 ? a.k : a.v;
    const std::int64_t stride = from.of == 0 ? a.q_layout.width : from.of == 1 ? a.k_layout.width : a.v_layout.width;
    a.y[i] = rows[row % a.n * stride + from.column];
  }
};

/// An element of the parts goes to its head; where several parts have the head, the first of them adds up all in their order.
template <class T>
struct ToHeads {
  PartsToHeadsArguments<T> a;
  std::int64_t width;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const std::int64_t row = i / width, part = row / a.n;
    const HeadPlace place = place_of(a, part, i % width);
    const std::int64_t sharing = place.of == 0 || a.kv_heads >= a.parts ? 1 : a.parts / a.kv_heads;
    if (part % sharing != 0) return;
    float sum = widen(a.y[i]);
    for (std::int64_t k = 1; k < sharing; k++) sum += widen(a.y[i + k * a.n * width]);
    T* rows = place.of == 0 ? a.q : place.of == 1 ? a.k : a.v;
    const std::int64_t stride = place.of == 0 ? a.q_layout.width : place.of == 1 ? a.k_layout.width : a.v_layout.width;
    rows[row % a.n * stride + place.column] = narrow<T>(sum);
  }
};

template <class T>
void run_to_parts(const HeadsToPartsArguments<T>& a, const Team& team) {
  each_element<1>(*team.queue, a.parts * a.n * width_of(a), true, ToParts<T>{a, width_of(a)});
}
template <class T>
void run_to_heads(const PartsToHeadsArguments<T>& a, const Team& team) {
  each_element<1>(*team.queue, a.parts * a.n * width_of(a), true, ToHeads<T>{a, width_of(a)});
}

}  // namespace

template <class T>
Kernel<HeadsToPartsArguments<T>> heads_to_parts() {
  return {run_to_parts<T>, nullptr};
}
template <class T>
Kernel<PartsToHeadsArguments<T>> parts_to_heads() {
  return {run_to_heads<T>, nullptr};
}

RL_FOR_TYPES(heads_to_parts, HeadsToPartsArguments)
RL_FOR_TYPES(parts_to_heads, PartsToHeadsArguments)

}  // namespace raylite::cuda

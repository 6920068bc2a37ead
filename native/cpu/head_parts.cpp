// heads_to_parts, parts_to_heads: copies of heads, rows split among threads.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

/// The key-value heads of one part.
template <class Arguments>
Range kv_heads_of(const Arguments& a, std::int64_t part) {
  if (a.kv_heads >= a.parts) {
    const std::int64_t count = a.kv_heads / a.parts;
    return {part * count, (part + 1) * count};
  }
  if (a.kv_heads == 0) return {0, 0};
  const std::int64_t head = part * a.kv_heads / a.parts;
  return {head, head + 1};
}

template <class Arguments>
std::int64_t width_of(const Arguments& a) {
  const Range kv = kv_heads_of(a, 0);
  return (a.heads / a.parts + 2 * (kv.end - kv.begin)) * a.head_dim;
}

template <class T>
RL_INLINE T* head_at(T* rows, const HeadLayout& layout, std::int64_t row, std::int64_t head) {
  return rows + row * layout.width + layout.offset + head * layout.head_stride;
}

template <class T>
void add_head(T* to, const T* from, std::int64_t count) {
  each_vector(count, [&](std::int64_t j, int n) { store_n(to + j, load_n(to + j, n) + load_n(from + j, n), n); });
}

}  // namespace

template <class T>
static void heads_to_parts_of(const HeadsToPartsArguments<T>& a, const Team& team) {
  const std::int64_t width = width_of(a), own = a.heads / a.parts;
  const auto bytes = static_cast<std::size_t>(a.head_dim) * sizeof(T);
  const Range rows = share_rows(team, a.n, width * a.parts);
  for (std::int64_t part = 0; part < a.parts; part++) {
    const Range kv = kv_heads_of(a, part);
    for (std::int64_t row = rows.begin; row < rows.end; row++) {
      T* y = a.y + (part * a.n + row) * width;
      const auto put = [&](const T* from) {
        __builtin_memcpy(y, from, bytes);
        y += a.head_dim;
      };
      for (std::int64_t head = part * own; head < (part + 1) * own; head++) put(head_at(a.q, a.q_layout, row, head));
      for (std::int64_t head = kv.begin; head < kv.end; head++) put(head_at(a.k, a.k_layout, row, head));
      for (std::int64_t head = kv.begin; head < kv.end; head++) put(head_at(a.v, a.v_layout, row, head));
    }
  }
}

template <class T>
static void parts_to_heads_of(const PartsToHeadsArguments<T>& a, const Team& team) {
  const std::int64_t width = width_of(a), own = a.heads / a.parts;
  const auto bytes = static_cast<std::size_t>(a.head_dim) * sizeof(T);
  const std::int64_t copies = a.kv_heads > 0 && a.kv_heads < a.parts ? a.parts / a.kv_heads : 1;
  const Range rows = share_rows(team, a.n, width * a.parts);
  for (std::int64_t part = 0; part < a.parts; part++) {
    const Range kv = kv_heads_of(a, part);
    const bool adds = part % copies != 0;
    for (std::int64_t row = rows.begin; row < rows.end; row++) {
      const T* y = a.y + (part * a.n + row) * width;
      const auto take = [&](T* to, bool adds) {
        if (adds) {
          add_head(to, y, a.head_dim);
        } else {
          __builtin_memcpy(to, y, bytes);
        }
        y += a.head_dim;
      };
      for (std::int64_t head = part * own; head < (part + 1) * own; head++) take(head_at(a.q, a.q_layout, row, head), false);
      for (std::int64_t head = kv.begin; head < kv.end; head++) take(head_at(a.k, a.k_layout, row, head), adds);
      for (std::int64_t head = kv.begin; head < kv.end; head++) take(head_at(a.v, a.v_layout, row, head), adds);
    }
  }
}

RL_DEFINE(heads_to_parts, HeadsToPartsArguments)
RL_DEFINE(parts_to_heads, PartsToHeadsArguments)

}  // namespace raylite::RL_ISA

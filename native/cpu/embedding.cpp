// embedding, embedding_backward. Rows are split among threads forward, columns backward: so each sum has one owner and one order.
#include "cpu/kernels.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void embedding_of(const EmbeddingArguments<T>& a, const Team& team) {
  constexpr int kParts = kPartsOf<T>;
  const Writer<T> writer(a.y, a.n, a.d, a.y == a.addend);
  const Range rows = share_rows(team, a.n, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const std::int64_t at = a.ids[i] + a.offset;
    if (at < a.offset || at >= a.entries) {
      team.fail_value("ids", i, a.ids[i], 0, a.entries - a.offset);
      continue;
    }
    const bool is_here = at >= a.start && at < a.start + a.v;
    const T* entry = is_here ? a.table + (at - a.start) * a.d : nullptr;
    const T* addend = a.addend == nullptr ? nullptr : a.addend + i * a.d;
    T* y = a.y + i * a.d;
    each_block<T>(a.d, [&](std::int64_t j, int n) {
      Block<kParts> x{};
      if (entry != nullptr) x = load_block<kParts>(entry + j, n);
      if (addend != nullptr) x = x + load_block<kParts>(addend + j, n);
      writer.put(y + j, x, n);
    });
  }
  writer.end();
}

template <class T>
static void embedding_backward_of(const EmbeddingBackwardArguments<T>& a, const Team& team) {
  if (!a.accumulate && a.beta[0] == 0.0f) {
    const Range all = share_elements(team, a.v * a.d);
    each_vector(all.end - all.begin, [&](std::int64_t i, int n) { store_n(a.dtable + all.begin + i, broadcast(0), n); });
    team.barrier();
  }
  const Range columns = share(team, a.d, kLanes);
  const std::int64_t width = columns.end - columns.begin;
  for (std::int64_t i = 0; i < a.n; i++) {
    const std::int64_t at = a.ids[i] + a.offset;
    if (at < a.offset || at >= a.entries) {
      team.fail_value("ids", i, a.ids[i], 0, a.entries - a.offset);
      continue;
    }
    if (a.ids[i] == a.padding || at < a.start || at >= a.start + a.v) continue;
    float* entry = a.dtable + (at - a.start) * a.d + columns.begin;
    const T* dy = a.dy + i * a.d + columns.begin;
    each_vector(width, [&](std::int64_t j, int n) { store_n(entry + j, load_n(entry + j, n) + load_n(dy + j, n), n); });
  }
}

RL_DEFINE(embedding, EmbeddingArguments)
RL_DEFINE(embedding_backward, EmbeddingBackwardArguments)

}  // namespace raylite::RL_ISA

// add, scale, copy, fill, gather_rows.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

void add(const AddArguments& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
    const std::int64_t i = all.begin + j;
    store_n(a.y + i, load_n(a.a + i, n) + load_n(a.b + i, n), n);
  });
}

void scale(const ScaleArguments& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
    const std::int64_t i = all.begin + j;
    store_n(a.y + i, load_n(a.x + i, n) * a.factor, n);
  });
}

void copy(const CopyArguments& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  if (all.end > all.begin) __builtin_memcpy(a.y + all.begin, a.a + all.begin, static_cast<std::size_t>(all.end - all.begin) * 4);
}

void fill(const FillArguments& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  const Floats value = broadcast(a.value);
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) { store_n(a.y + all.begin + j, value, n); });
}

void gather_rows(const GatherRowsArguments& a, const Team& team) {
  const Range rows = share_rows(team, a.m, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const std::int64_t from = a.index[i];
    if (from < 0 || from >= a.n) {
      team.fail_value("index", i, from, 0, a.n);
      continue;
    }
    __builtin_memcpy(a.y + i * a.d, a.x + from * a.d, static_cast<std::size_t>(a.d) * 4);
  }
}

}  // namespace raylite::RL_ISA

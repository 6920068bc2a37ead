// add, scale, cast, copy, fill, gather_rows.
#include "cpu/kernels.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

template <class T>
static void add_of(const AddArguments<T>& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
    const std::int64_t i = all.begin + j;
    store_n(a.y + i, load_n(a.a + i, n) + load_n(a.b + i, n), n);
  });
}

template <class T>
static void scale_of(const ScaleArguments<T>& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
    const std::int64_t i = all.begin + j;
    store_n(a.y + i, load_n(a.x + i, n) * a.factor, n);
  });
}

template <class From, class To>
static void cast_range(const From* x, To* y, const Range& all) {
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) { store_n(y + all.begin + j, load_n(x + all.begin + j, n), n); });
}

template <class T>
static void cast_of(const CastArguments<T>& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  if (a.to == DType::kBF16) {
    cast_range(a.x, static_cast<BFloat16*>(a.y), all);
  } else if (a.to == DType::kF16) {
    cast_range(a.x, static_cast<Float16*>(a.y), all);
  } else {
    cast_range(a.x, static_cast<float*>(a.y), all);
  }
}

template <class T>
static void copy_of(const CopyArguments<T>& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  if (all.end > all.begin) __builtin_memcpy(a.y + all.begin, a.a + all.begin, static_cast<std::size_t>(all.end - all.begin) * sizeof(T));
}

template <class T>
static void fill_of(const FillArguments<T>& a, const Team& team) {
  const Range all = share_elements(team, a.n);
  const Floats value = broadcast(a.value);
  each_vector(all.end - all.begin, [&](std::int64_t j, int n) { store_n(a.y + all.begin + j, value, n); });
}

template <class T>
static void gather_rows_of(const GatherRowsArguments<T>& a, const Team& team) {
  const Range rows = share_rows(team, a.m, a.d);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    const std::int64_t from = a.index[i];
    if (from < 0 || from >= a.n) {
      team.fail_value("index", i, from, 0, a.n);
      continue;
    }
    __builtin_memcpy(a.y + i * a.d, a.x + from * a.d, static_cast<std::size_t>(a.d) * sizeof(T));
  }
}

RL_DEFINE(add, AddArguments)
RL_DEFINE(scale, ScaleArguments)
RL_DEFINE(cast, CastArguments)
RL_DEFINE(copy, CopyArguments)
RL_DEFINE(fill, FillArguments)
RL_DEFINE(gather_rows, GatherRowsArguments)

}  // namespace raylite::RL_ISA

// add, scale, cast, copy, fill, gather_rows.
#include "cpu/kernels.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

template <class T>
static void add_of(const AddArguments<T>& a, const Team& team) {
  constexpr int kParts = kPartsOf<T>;
  write_elements(team, a.y, a.n, a.y == a.a || a.y == a.b, [&](std::int64_t i, int n) __attribute__((always_inline)) {
    return load_block<kParts>(a.a + i, n) + load_block<kParts>(a.b + i, n);
  });
}

template <class T>
static void scale_of(const ScaleArguments<T>& a, const Team& team) {
  write_elements(team, a.y, a.n, a.y == a.x, [&](std::int64_t i, int n) __attribute__((always_inline)) {
    return load_block<kPartsOf<T>>(a.x + i, n) * a.factor;
  });
}

template <class From, class To>
static void cast_elements(const From* x, To* y, std::int64_t count, const Team& team) {
  const bool in_place = static_cast<const void*>(x) == static_cast<const void*>(y);
  write_elements(team, y, count, in_place, [&](std::int64_t i, int n) __attribute__((always_inline)) {
    return load_block<kPartsOf<To>>(x + i, n);
  });
}

template <class T>
static void cast_of(const CastArguments<T>& a, const Team& team) {
  if (a.to == DType::kBF16) {
    cast_elements(a.x, static_cast<BFloat16*>(a.y), a.n, team);
  } else if (a.to == DType::kF16) {
    cast_elements(a.x, static_cast<Float16*>(a.y), a.n, team);
  } else {
    cast_elements(a.x, static_cast<float*>(a.y), a.n, team);
  }
}

template <class T>
static void copy_of(const CopyArguments<T>& a, const Team& team) {
  // Bytes as they are, whatever numbers they stand for.
  const auto* from = reinterpret_cast<const std::uint8_t*>(a.a);
  auto* to = reinterpret_cast<std::uint8_t*>(a.y);
  const Range all = share_elements(team, a.n);
  const std::int64_t begin = all.begin * static_cast<std::int64_t>(sizeof(T)), end = all.end * static_cast<std::int64_t>(sizeof(T));
  copy_around(to + begin, from + begin, end - begin, Writer<T>(a.y, 1, a.n, a.y == a.a).around);
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

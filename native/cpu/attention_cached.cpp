// kv_append, attention_cached. A task is one query head of a few rows; rows of one slot at positions in a row (a prompt) share
// each block of keys while it is warm.
#include "cpu/attention_blocks.h"
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kTaskRows = 16;
static_assert(kKeys == kCacheBlockTokens, "a block of the cache is a block of keys");

/// Whether the row's place and all blocks before it are in the cache.
bool in_cache(const CachePlaces& at, std::int64_t i, const Team& team) {
  if (at.slots[i] < 0 || at.slots[i] >= at.s) {
    team.fail_value("slots", i, at.slots[i], 0, at.s);
    return false;
  }
  if (at.positions[i] < 0 || at.positions[i] >= at.m * kKeys) {
    team.fail_value("positions", i, at.positions[i], 0, at.m * kKeys);
    return false;
  }
  const std::int32_t* table = at.blocks + at.slots[i] * at.m;
  for (std::int64_t j = 0; j <= at.positions[i] / kKeys; j++) {
    if (table[j] >= 0 && table[j] < at.b) continue;
    team.fail_value("blocks", at.slots[i] * at.m + j, table[j], 0, at.b);
    return false;
  }
  return true;
}

RL_INLINE std::int64_t block_of(const CachePlaces& at, std::int64_t i) {
  return at.blocks[at.slots[i] * at.m + at.positions[i] / kKeys];
}

template <class T, class Word>
struct Attend {
  const AttentionCachedArguments<T>& a;
  std::int64_t padded;
  float factor;
  Word *queries, *keys, *values;
  float *products, *sums;
  PowerOf<Word>* powers;
  RowSums* seen;

  Attend(const AttentionCachedArguments<T>& arguments, Scratch& scratch)
      : a(arguments), padded(padded_dim(a.head_dim)), factor(a.scale * kLog2E) {
    queries = scratch.take<Word>(kTaskRows * row_words<Word>(padded));
    keys = scratch.take<Word>(depth_words<Word>(a.head_dim) * kKeys);
    values = scratch.take<Word>(depth_words<Word>(kKeys) * padded);
    products = scratch.take(kTaskRows * kKeys);
    powers = scratch.take<PowerOf<Word>>(kTaskRows * kKeys);
    sums = scratch.take(kTaskRows * padded);
    seen = scratch.take<RowSums>(kTaskRows * static_cast<std::int64_t>(sizeof(RowSums) / 4));
  }

  /// Rows first .. first + rows - 1 are of one slot, at positions in a row.
  void run(std::int64_t head, std::int64_t first, std::int64_t rows) const {
    const std::int64_t width = a.kv_heads * a.head_dim;
    const std::int64_t kv_head = head / (a.heads / a.kv_heads);
    const std::int32_t* table = a.places.blocks + a.places.slots[first] * a.places.m;
    const std::int64_t position = a.places.positions[first];
    const std::int64_t end = position + rows;
    copy_rows(a.q + first * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.q_layout.width, rows,
              a.head_dim, padded, queries);
    __builtin_memset(sums, 0, static_cast<std::size_t>(rows * padded) * 4);
    for (std::int64_t i = 0; i < rows; i++) seen[i].clear();
    for (std::int64_t key = begin_of(position) / kKeys * kKeys; key < end; key += kKeys) {
      const std::int64_t block = table[key / kKeys];
      const T* k = a.cache_k + (block * a.kv_heads + kv_head) * a.head_dim * kKeys;
      block_product<false>(rows, kKeys, depth_words<Word>(a.head_dim), queries, row_words<Word>(padded), 1, transposed(k),
                           kKeys, products, kKeys);
      for (std::int64_t i = 0; i < rows; i++) {
        const std::int64_t begin = max_of(begin_of(position + i) - key, 0);
        soften_row(products + i * kKeys, 0, kKeys, begin, min_of(position + i + 1 - key, kKeys), factor, seen[i],
                   sums + i * padded, padded, powers + i * kKeys);
      }
      weigh(a.cache_v + block * kKeys * width + kv_head * a.head_dim, width, rows, min_of(kKeys, end - key));
    }
    for (std::int64_t i = 0; i < rows; i++) {
      const Floats share = broadcast(1.0f / seen[i].sum());
      T* o = a.o + (first + i) * a.heads * a.head_dim + head * a.head_dim;
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(o + j, load(sums + i * padded + j) * share, n); });
    }
  }

  /// The first position that a row sees.
  std::int64_t begin_of(std::int64_t position) const { return a.window > 0 ? max_of(0, position - a.window + 1) : 0; }

  /// A block of keys, which the cache holds transposed, in words.
  const Word* transposed(const T* k) const {
    if constexpr (std::is_same_v<T, Word>) {
      return k;
    } else {
      pack_panel<kKeys>(k, 1, kKeys, kKeys, a.head_dim, keys);
      return keys;
    }
  }

  void weigh(const T* v, std::int64_t width, std::int64_t rows, std::int64_t count) const {
    if constexpr (std::is_same_v<T, Word>) {
      if (padded == a.head_dim) {
        block_product<true>(rows, padded, count, powers, kKeys, 1, v, width, sums, padded);
        return;
      }
    }
    copy_values(v, width, count, a.head_dim, padded, values);
    add_values<Word>(rows, 0, count, powers, values, padded, sums);
  }
};

}  // namespace

template <class T>
static void kv_append_of(const KvAppendArguments<T>& a, const Team& team) {
  const std::int64_t width = a.kv_heads * a.head_dim;
  // Every number of a key goes to a cache line of its own, which is in no cache: the heads of one row are shared, too.
  const Range parts = share(team, a.n * a.kv_heads, 1);
  for (std::int64_t part = parts.begin; part < parts.end; part++) {
    const std::int64_t i = part / a.kv_heads, head = part % a.kv_heads;
    if (!in_cache(a.places, i, team)) continue;
    const std::int64_t block = block_of(a.places, i);
    const std::int64_t token = a.places.positions[i] % kKeys;
    const T* k = a.k + i * a.k_layout.width + a.k_layout.offset + head * a.k_layout.head_stride;
    const T* v = a.v + i * a.v_layout.width + a.v_layout.offset + head * a.v_layout.head_stride;
    T* to = a.cache_k + (block * width + head * a.head_dim) * kKeys + token;
    for (std::int64_t c = 0; c < a.head_dim; c++) to[c * kKeys] = k[c];
    __builtin_memcpy(a.cache_v + (block * kKeys + token) * width + head * a.head_dim, v,
                     static_cast<std::size_t>(a.head_dim) * sizeof(T));
  }
}

template <class T>
static void attention_cached_of(const AttentionCachedArguments<T>& a, const Team& team) {
  const std::int32_t* slots = a.places.slots;
  const std::int32_t* positions = a.places.positions;
  const std::int64_t groups = (a.n + kTaskRows - 1) / kTaskRows;
  with_word<T>([&](auto word) {
    using Word = decltype(word);
    Scratch size{nullptr};
    Attend<T, Word>(a, size);
    Scratch scratch{reinterpret_cast<float*>(team.workspace) + team.index * size.words};
    const Attend<T, Word> attend(a, scratch);
    for (std::int64_t task = team.claim(); task < groups * a.heads; task = team.claim()) {
      const std::int64_t last = min_of((task / a.heads + 1) * kTaskRows, a.n);
      std::int64_t rows = 1;
      for (std::int64_t first = task / a.heads * kTaskRows; first < last; first += rows) {
        rows = 1;
        if (!in_cache(a.places, first, team)) continue;
        while (first + rows < last && slots[first + rows] == slots[first] &&
               positions[first + rows] == positions[first] + rows && in_cache(a.places, first + rows, team)) {
          rows++;
        }
        attend.run(task % a.heads, first, rows);
      }
    }
  });
}

template <class T>
static std::size_t attention_cached_workspace_of(const AttentionCachedArguments<T>& a, int threads) {
  return with_word<T>([&](auto word) {
    Scratch size{nullptr};
    Attend<T, decltype(word)>(a, size);
    return static_cast<std::size_t>(size.words * threads) * 4;
  });
}

RL_DEFINE(kv_append, KvAppendArguments)
RL_DEFINE(attention_cached, AttentionCachedArguments)
RL_DEFINE_WORKSPACE(attention_cached, AttentionCachedArguments)

}  // namespace raylite::RL_ISA

// attention by blocks of queries and keys; the products of a strip of queries and a block of keys run from the first-level
// cache. What the mask hides of a block is left out, to the vector of keys and the strip of queries. A task is (query head,
// block of query rows).
#include "cpu/attention_blocks.h"
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

namespace {

/// Of a task: so many share each block of keys that is packed.
constexpr std::int64_t kTaskQueries = 128;

template <class T, class Word>
struct Forward {
  const AttentionArguments<T>& a;
  std::int64_t padded;
  float factor;
  Word *queries, *keys, *values;
  float *products, *sums;
  PowerOf<Word>* powers;
  RowSums* seen;

  Forward(const AttentionArguments<T>& arguments, Scratch& scratch)
      : a(arguments), padded(padded_dim(a.head_dim)), factor(a.scale * kLog2E) {
    queries = scratch.take<Word>(kTaskQueries * row_words<Word>(padded));
    keys = scratch.take<Word>(depth_words<Word>(a.head_dim) * kKeys);
    values = scratch.take<Word>(depth_words<Word>(kKeys) * padded);
    products = scratch.take(kStrip * kKeys);
    powers = scratch.take<PowerOf<Word>>(kStrip * kKeys);
    sums = scratch.take(kTaskQueries * padded);
    seen = scratch.take<RowSums>(kTaskQueries * static_cast<std::int64_t>(sizeof(RowSums) / 4));
  }

  void run(std::int64_t head, std::int64_t first) const {
    const std::int64_t rows = min_of(kTaskQueries, a.n - first);
    const std::int64_t kv_head = head / (a.heads / a.kv_heads);
    const T* k = a.k + a.k_layout.offset + kv_head * a.k_layout.head_stride;
    const T* v = a.v + a.v_layout.offset + kv_head * a.v_layout.head_stride;
    copy_rows(a.q + first * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.q_layout.width, rows,
              a.head_dim, padded, queries);
    __builtin_memset(sums, 0, static_cast<std::size_t>(rows * padded) * 4);
    for (std::int64_t i = 0; i < rows; i++) seen[i].clear();
    // Blocks of keys begin at multiples of kKeys of their segment, as in a cache.
    for (std::int64_t i = 0; i < rows;) {
      const std::int64_t start = a.mask.starts[first + i];
      const std::int64_t end = min_of(rows, a.mask.ends[first + i] - first);
      const std::int64_t key_begin = start + (visible(a.mask, first + i).begin - start) / kKeys * kKeys;
      const std::int64_t key_end = visible(a.mask, first + end - 1).end;
      for (std::int64_t key = key_begin; key < key_end; key += kKeys) {
        const std::int64_t count = min_of(kKeys, key_end - key);
        copy_transposed(k + key * a.k_layout.width, a.k_layout.width, count, a.head_dim, keys);
        copy_values(v + key * a.v_layout.width, a.v_layout.width, count, a.head_dim, padded, values);
        for (std::int64_t at = i; at < end; at += kStrip) strip(head, first, {at, min_of(at + kStrip, end)}, key, count);
      }
      i = end;
    }
    const float kept = a.dropout.random == nullptr ? 1.0f : mask_scale(masks_of(a.dropout.random, a.dropout.probability));
    for (std::int64_t i = 0; i < rows; i++) {
      const float total = seen[i].sum();
      const Floats share = broadcast(kept / total);
      T* o = a.o + (first + i) * a.heads * a.head_dim + head * a.head_dim;
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(o + j, load(sums + i * padded + j) * share, n); });
      a.lse[(first + i) * a.heads + head] = seen[i].top * kLn2 + __builtin_logf(total);
    }
  }

  /// Queries `rows` of the task, all of one segment, and a block of its keys.
  void strip(std::int64_t head, std::int64_t first, const Range& rows, std::int64_t key, std::int64_t count) const {
    const std::int64_t begin = seen_of_block(a.mask, first + rows.begin, key, count).begin;
    const std::int64_t end = seen_of_block(a.mask, first + rows.end - 1, key, count).end;
    if (begin >= end) return;
    const std::int64_t from = begin / kLanes * kLanes;
    const std::int64_t to = min_of((end + kLanes - 1) / kLanes * kLanes, kKeys);
    const std::int64_t height = rows.end - rows.begin;
    block_product<false>(height, to - from, depth_words<Word>(a.head_dim), queries + rows.begin * row_words<Word>(padded),
                         row_words<Word>(padded), 1, keys + from, kKeys, products + from, kKeys);
    for (std::int64_t i = 0; i < height; i++) {
      const std::int64_t row = rows.begin + i;
      const Range own = seen_of_block(a.mask, first + row, key, count);
      soften_row(products + i * kKeys, from, to, own.begin, own.end, factor, seen[row], sums + row * padded, padded,
                 powers + i * kKeys);
    }
    if (a.dropout.random != nullptr) drop(head, first + rows.begin, height, key, from, to);
    add_values<Word>(height, begin, end, powers, values, padded, sums + rows.begin * padded);
  }

  /// Powers of dropped keys become 0; the totals have counted them.
  void drop(std::int64_t head, std::int64_t query, std::int64_t rows, std::int64_t key, std::int64_t from, std::int64_t to) const {
    const KeptKeys kept = kept_keys(a.dropout, head);
    for (std::int64_t i = 0; i < rows; i++) {
      const std::uint64_t bits = kept_bits(kept, query + i, key);
      PowerOf<Word>* row = powers + i * kKeys;
      for (std::int64_t j = from; j < to; j += kLanes) store_powers(row + j, keep_lanes(load(row + j), bits >> j));
    }
  }
};

}  // namespace

template <class T>
static void attention_of(const AttentionArguments<T>& a, const Team& team) {
  if (!segments_valid(a.mask, a.n, team)) return;
  with_word<T>([&](auto word) {
    using Word = decltype(word);
    Scratch size{nullptr};
    Forward<T, Word>(a, size);
    Scratch scratch{reinterpret_cast<float*>(team.workspace) + team.index * size.words};
    const Forward<T, Word> forward(a, scratch);
    const std::int64_t blocks = (a.n + kTaskQueries - 1) / kTaskQueries;
    for (std::int64_t task = team.claim(); task < blocks * a.heads; task = team.claim()) {
      forward.run(task / blocks, task % blocks * kTaskQueries);
    }
  });
}

template <class T>
static std::size_t attention_workspace_of(const AttentionArguments<T>& a, int threads) {
  return with_word<T>([&](auto word) {
    Scratch size{nullptr};
    Forward<T, decltype(word)>(a, size);
    return static_cast<std::size_t>(size.words * threads) * 4;
  });
}

RL_DEFINE(attention, AttentionArguments)
RL_DEFINE_WORKSPACE(attention, AttentionArguments)

}  // namespace raylite::RL_ISA

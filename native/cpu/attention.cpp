// attention by blocks of queries and keys; every block product runs from the first-level cache. Blocks that the mask hides
// whole are skipped. Queries are copied with the scale folded in, so scores come out scaled. A task is (query head, block
// of query rows).
#include "cpu/attention_blocks.h"
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
struct Forward {
  const AttentionArguments<T>& a;
  std::int64_t padded;
  float *queries, *keys, *values, *scores, *sums, *tops, *totals;

  Forward(const AttentionArguments<T>& arguments, Scratch scratch) : a(arguments), padded(padded_dim(a.head_dim)) {
    queries = scratch.take(kQueries * padded);
    keys = scratch.take(kKeys * a.head_dim);
    values = scratch.take(kKeys * padded);
    scores = scratch.take(kQueries * kKeys);
    sums = scratch.take(kQueries * padded);
    tops = scratch.take(kQueries);
    totals = scratch.take(kQueries);
  }
  static std::int64_t floats(std::int64_t head_dim) {
    const std::int64_t padded = padded_dim(head_dim);
    return 2 * kQueries * padded + kKeys * (head_dim + padded + 16) + kQueries * kKeys + 2 * kQueries + 7 * 16;
  }

  void run(std::int64_t head, std::int64_t first) const {
    const std::int64_t rows = min_of(kQueries, a.n - first);
    const std::int64_t kv_head = head / (a.heads / a.kv_heads);
    const T* k = a.k + a.k_layout.offset + kv_head * a.k_layout.head_stride;
    const T* v = a.v + a.v_layout.offset + kv_head * a.v_layout.head_stride;
    copy_rows(a.q + first * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.q_layout.width, rows,
              a.head_dim, padded, a.scale, queries);
    __builtin_memset(sums, 0, static_cast<std::size_t>(rows * padded) * 4);
    std::int64_t key_begin = a.n;
    std::int64_t key_end = 0;
    for (std::int64_t i = 0; i < rows; i++) {
      const Range seen = visible(a.mask, first + i);
      key_begin = min_of(key_begin, seen.begin);
      key_end = max_of(key_end, seen.end);
      tops[i] = kHidden;
      totals[i] = 0;
    }
    for (std::int64_t key = key_begin; key < key_end; key += kKeys) {
      const std::int64_t count = min_of(kKeys, key_end - key);
      copy_transposed(k + key * a.k_layout.width, a.k_layout.width, count, a.head_dim, keys);
      copy_rows(v + key * a.v_layout.width, a.v_layout.width, count, a.head_dim, padded, 1.0f, values);
      block_product<false>(rows, kKeys, a.head_dim, queries, padded, 1, keys, kKeys, scores, kKeys);
      for (std::int64_t i = 0; i < rows; i++) soften(i, first + i, key, count);
      if (a.dropout.random != nullptr) drop(head, first, rows, key);
      block_product<true>(rows, padded, count, scores, kKeys, 1, values, padded, sums, padded);
    }
    const float kept = a.dropout.random == nullptr ? 1.0f : mask_scale(masks_of(a.dropout.random, a.dropout.probability));
    for (std::int64_t i = 0; i < rows; i++) {
      const Floats factor = broadcast(kept / totals[i]);
      T* o = a.o + (first + i) * a.heads * a.head_dim + head * a.head_dim;
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(o + j, load(sums + i * padded + j) * factor, n); });
      a.lse[(first + i) * a.heads + head] = tops[i] + __builtin_logf(totals[i]);
    }
  }

  /// Exponentials of dropped keys become 0; the totals have counted them.
  void drop(std::int64_t head, std::int64_t first, std::int64_t rows, std::int64_t key) const {
    const KeptKeys kept = kept_keys(a.dropout, head);
    for (std::int64_t i = 0; i < rows; i++) {
      const std::uint64_t bits = kept_bits(kept, first + i, key);
      float* row = scores + i * kKeys;
      for (std::int64_t j = 0; j < kKeys; j += kLanes) store(row + j, keep_lanes(load(row + j), bits >> j));
    }
  }

  void soften(std::int64_t i, std::int64_t query, std::int64_t key, std::int64_t count) const {
    float* row = scores + i * kKeys;
    const Range seen = visible(a.mask, query);
    const std::int64_t begin = max_of(seen.begin - key, 0);
    const std::int64_t end = min_of(seen.end - key, count);
    if (begin >= end) {
      __builtin_memset(row, 0, kKeys * sizeof(float));
      return;
    }
    hide(row, begin, end);
    soften_row(row, tops[i], totals[i], sums + i * padded, padded);
  }
};

}  // namespace

template <class T>
static void attention_of(const AttentionArguments<T>& a, const Team& team) {
  if (!segments_valid(a.mask, a.n, team)) return;
  const std::int64_t own = rounded(Forward<T>::floats(a.head_dim));
  const Forward<T> forward(a, Scratch{reinterpret_cast<float*>(team.workspace) + team.index * own});
  const std::int64_t blocks = (a.n + kQueries - 1) / kQueries;
  for (std::int64_t task = team.claim(); task < blocks * a.heads; task = team.claim()) {
    forward.run(task / blocks, task % blocks * kQueries);
  }
}

template <class T>
static std::size_t attention_workspace_of(const AttentionArguments<T>& a, int threads) {
  return static_cast<std::size_t>(rounded(Forward<T>::floats(a.head_dim)) * threads) * 4;
}

RL_DEFINE(attention, AttentionArguments)
RL_DEFINE_WORKSPACE(attention, AttentionArguments)

}  // namespace raylite::RL_ISA

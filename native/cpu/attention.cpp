// attention, attention_backward by blocks of queries and keys; every block product runs from the first-level cache.
// Blocks that the mask hides whole are skipped. Queries are copied with the scale folded in, so scores come out scaled.
// Forward: a task is (query head, block of query rows). Backward: a task is (key-value head, segment), whose dq, dk and dv
// nobody else touches; keys outside, queries inside, scores recomputed from lse (arXiv:2205.14135, Algorithm 4).
#include "cpu/block_product.h"
#include "cpu/kernels.h"
#include "cpu/online_softmax.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kQueries = 64;

/// Columns of a head in the block buffers: whole vectors, the last padded with zeros.
RL_INLINE std::int64_t padded_dim(std::int64_t head_dim) { return (head_dim + kLanes - 1) / kLanes * kLanes; }

/// Consecutive pieces of this thread's workspace.
struct Scratch {
  float* at;
  float* take(std::int64_t floats) {
    float* piece = at;
    at += (floats + 15) / 16 * 16;
    return piece;
  }
};

/// Keys that row i sees: [begin, end).
RL_INLINE Range visible(const AttentionMask& mask, std::int64_t i) {
  std::int64_t begin = mask.starts[i];
  std::int64_t end = mask.ends[i];
  if (mask.causal) end = min_of(end, i + 1);
  if (mask.window > 0) begin = max_of(begin, i - mask.window + 1);
  return {begin, end};
}

/// The segments must tile the rows. Every thread finds the same; one reports.
bool segments_valid(const AttentionMask& mask, std::int64_t n, const Team& team) {
  const auto expect = [&](const char* what, const std::int32_t* values, std::int64_t i, std::int64_t low, std::int64_t high) {
    if (values[i] >= low && values[i] < high) return true;
    if (team.index == 0) team.fail_value(what, i, values[i], low, high);
    return false;
  };
  for (std::int64_t begin = 0; begin < n; begin = mask.ends[begin]) {
    if (!expect("starts", mask.starts, begin, begin, begin + 1)) return false;
    if (!expect("ends", mask.ends, begin, begin + 1, n + 1)) return false;
    const std::int64_t end = mask.ends[begin];
    for (std::int64_t i = begin + 1; i < end; i++) {
      if (!expect("starts", mask.starts, i, begin, begin + 1) || !expect("ends", mask.ends, i, end, end + 1)) return false;
    }
  }
  return true;
}

/// to[rows][padded] = from * scale, columns beyond `dim` 0.
RL_INLINE void copy_rows(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, std::int64_t padded,
                         float scale, float* to) {
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t j = 0; j < padded; j += kLanes) {
      const int n = static_cast<int>(min_of(kLanes, dim - j));
      store(to + i * padded + j, load_n(from + i * stride + j, n) * scale);
    }
  }
}

/// to[dim][kKeys] = the transpose of from[rows][dim]; columns beyond `rows` 0.
RL_INLINE void copy_transposed(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t dim, float* to) {
  pack_panel<kKeys>(from, stride, 1, rows, dim, to);
}

struct Forward {
  const AttentionArguments& a;
  std::int64_t padded;
  float *queries, *keys, *values, *scores, *sums, *tops, *totals;

  Forward(const AttentionArguments& arguments, Scratch scratch) : a(arguments), padded(padded_dim(a.head_dim)) {
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
    const float* k = a.k + a.k_layout.offset + kv_head * a.k_layout.head_stride;
    const float* v = a.v + a.v_layout.offset + kv_head * a.v_layout.head_stride;
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
      block_product<true>(rows, padded, count, scores, kKeys, 1, values, padded, sums, padded);
    }
    for (std::int64_t i = 0; i < rows; i++) {
      const Floats factor = broadcast(1.0f / totals[i]);
      float* o = a.o + (first + i) * a.heads * a.head_dim + head * a.head_dim;
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(o + j, load(sums + i * padded + j) * factor, n); });
      a.lse[(first + i) * a.heads + head] = tops[i] + __builtin_logf(totals[i]);
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

struct Backward {
  const AttentionBackwardArguments& a;
  std::int64_t padded;
  float *queries, *grads, *scores, *slopes, *query_sums, *deltas;
  float *keys, *keys_transposed, *values_transposed, *key_sums, *value_sums;

  Backward(const AttentionBackwardArguments& arguments, Scratch scratch) : a(arguments), padded(padded_dim(a.head_dim)) {
    queries = scratch.take(kQueries * padded);
    grads = scratch.take(kQueries * padded);
    query_sums = scratch.take(kQueries * padded);
    scores = scratch.take(kQueries * kKeys);
    slopes = scratch.take(kQueries * kKeys);
    deltas = scratch.take(kQueries);
    keys = scratch.take(kKeys * padded);
    key_sums = scratch.take(kKeys * padded);
    value_sums = scratch.take(kKeys * padded);
    keys_transposed = scratch.take(kKeys * a.head_dim);
    values_transposed = scratch.take(kKeys * a.head_dim);
  }
  static std::int64_t floats(std::int64_t head_dim) {
    const std::int64_t padded = padded_dim(head_dim);
    return 3 * kQueries * padded + 2 * kQueries * kKeys + kQueries + 3 * kKeys * padded + 2 * kKeys * head_dim + 11 * 16;
  }

  void run(std::int64_t kv_head, std::int64_t begin, std::int64_t end) const {
    const std::int64_t group = a.heads / a.kv_heads;
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
      for (std::int64_t i = begin; i < end; i++) {
        __builtin_memset(query_gradient(head, i), 0, static_cast<std::size_t>(a.head_dim) * 4);
      }
    }
    const float* k = a.k + a.k_layout.offset + kv_head * a.k_layout.head_stride;
    const float* v = a.v + a.v_layout.offset + kv_head * a.v_layout.head_stride;
    for (std::int64_t key = begin; key < end; key += kKeys) {
      const std::int64_t count = min_of(kKeys, end - key);
      copy_rows(k + key * a.k_layout.width, a.k_layout.width, count, a.head_dim, padded, 1.0f, keys);
      copy_transposed(k + key * a.k_layout.width, a.k_layout.width, count, a.head_dim, keys_transposed);
      copy_transposed(v + key * a.v_layout.width, a.v_layout.width, count, a.head_dim, values_transposed);
      __builtin_memset(key_sums, 0, static_cast<std::size_t>(kKeys * padded) * 4);
      __builtin_memset(value_sums, 0, static_cast<std::size_t>(kKeys * padded) * 4);
      // Rows that can see a key of this block.
      const std::int64_t query_begin = a.mask.causal ? key : begin;
      const std::int64_t query_end = a.mask.window > 0 ? min_of(end, key + count - 1 + a.mask.window) : end;
      for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        for (std::int64_t query = query_begin; query < query_end; query += kQueries) {
          block(head, query, min_of(kQueries, query_end - query), key, count);
        }
      }
      // key_sums were taken with scaled queries: the scale is in them.
      store_rows(key_sums, count, a.dk + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride,
                 a.k_layout.width);
      store_rows(value_sums, count, a.dv + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride,
                 a.v_layout.width);
    }
  }

  float* query_gradient(std::int64_t head, std::int64_t i) const {
    return a.dq + i * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride;
  }

  void store_rows(const float* from, std::int64_t rows, float* to, std::int64_t stride) const {
    for (std::int64_t i = 0; i < rows; i++) {
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(to + i * stride + j, load(from + i * padded + j), n); });
    }
  }

  void block(std::int64_t head, std::int64_t query, std::int64_t rows, std::int64_t key, std::int64_t count) const {
    const std::int64_t width = a.heads * a.head_dim;
    const float* grad_o = a.grad_o + query * width + head * a.head_dim;
    const float* o = a.o + query * width + head * a.head_dim;
    copy_rows(a.q + query * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.q_layout.width, rows,
              a.head_dim, padded, a.scale, queries);
    copy_rows(grad_o, width, rows, a.head_dim, padded, 1.0f, grads);
    for (std::int64_t i = 0; i < rows; i++) {
      Floats sum{};
      each_vector(a.head_dim, [&](std::int64_t j, int n) { sum += load(grads + i * padded + j) * load_n(o + i * width + j, n); });
      deltas[i] = sum_lanes(sum);
    }
    block_product<false>(rows, kKeys, a.head_dim, queries, padded, 1, keys_transposed, kKeys, scores, kKeys);
    block_product<false>(rows, kKeys, a.head_dim, grads, padded, 1, values_transposed, kKeys, slopes, kKeys);
    for (std::int64_t i = 0; i < rows; i++) {
      float* score = scores + i * kKeys;
      float* slope = slopes + i * kKeys;
      const Range seen = visible(a.mask, query + i);
      hide(score, min_of(max_of(seen.begin - key, 0), kKeys), max_of(min_of(seen.end - key, count), 0));
      const Floats lse = broadcast(a.lse[(query + i) * a.heads + head]);
      const Floats delta = broadcast(deltas[i]);
      for (std::int64_t j = 0; j < kKeys; j += kLanes) {
        const Floats p = exp_of(load(score + j) - lse);
        store(score + j, p);
        store(slope + j, p * (load(slope + j) - delta));
      }
    }
    block_product<true>(count, padded, rows, scores, 1, kKeys, grads, padded, value_sums, padded);
    block_product<true>(count, padded, rows, slopes, 1, kKeys, queries, padded, key_sums, padded);
    block_product<false>(rows, padded, count, slopes, kKeys, 1, keys, padded, query_sums, padded);
    for (std::int64_t i = 0; i < rows; i++) {
      float* dq = query_gradient(head, query + i);
      each_vector(a.head_dim, [&](std::int64_t j, int n) {
        store_n(dq + j, load_n(dq + j, n) + load(query_sums + i * padded + j) * a.scale, n);
      });
    }
  }
};

RL_INLINE std::int64_t rounded(std::int64_t floats) { return (floats + 15) / 16 * 16; }

}  // namespace

void attention(const AttentionArguments& a, const Team& team) {
  if (!segments_valid(a.mask, a.n, team)) return;
  const Forward forward(a, Scratch{reinterpret_cast<float*>(team.workspace) + team.index * rounded(Forward::floats(a.head_dim))});
  const std::int64_t blocks = (a.n + kQueries - 1) / kQueries;
  for (std::int64_t task = team.claim(); task < blocks * a.heads; task = team.claim()) {
    forward.run(task / blocks, task % blocks * kQueries);
  }
}

void attention_backward(const AttentionBackwardArguments& a, const Team& team) {
  if (!segments_valid(a.mask, a.n, team)) return;
  const Backward backward(a, Scratch{reinterpret_cast<float*>(team.workspace) + team.index * rounded(Backward::floats(a.head_dim))});
  std::int64_t segment = 0;
  std::int64_t begin = 0;
  for (std::int64_t task = team.claim();; task = team.claim()) {
    for (; segment < task / a.kv_heads && begin < a.n; segment++) begin = a.mask.ends[begin];
    if (begin >= a.n) return;
    backward.run(task % a.kv_heads, begin, a.mask.ends[begin]);
  }
}

std::size_t attention_workspace(const AttentionArguments& a, int threads) {
  return static_cast<std::size_t>(rounded(Forward::floats(a.head_dim)) * threads) * 4;
}

std::size_t attention_backward_workspace(const AttentionBackwardArguments& a, int threads) {
  return static_cast<std::size_t>(rounded(Backward::floats(a.head_dim)) * threads) * 4;
}

}  // namespace raylite::RL_ISA

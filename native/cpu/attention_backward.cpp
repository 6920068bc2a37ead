// attention_backward by blocks: keys outside, queries inside, scores recomputed from lse (arXiv:2205.14135, Algorithm 4).
// A unit of work is (key-value head, segment). Where there are many, each is one thread's: nobody else touches its dq, dk
// and dv. Where there are few (long sequences, few key-value heads), the threads share the blocks of keys of each, and the
// partial sums of dq are added up in the order of threads.
#include "cpu/attention_blocks.h"
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kUnitsPerThread = 4;

template <class T>
struct Backward {
  const AttentionBackwardArguments<T>& a;
  std::int64_t padded, group;
  float* gradients;  // by the queries of the heads of a group: [group, rows of the segment, padded]
  float *queries, *grads, *scores, *slopes, *deltas;
  float *keys, *keys_transposed, *values_transposed, *key_sums, *value_sums;

  Backward(const AttentionBackwardArguments<T>& arguments, Scratch scratch) : a(arguments), padded(padded_dim(a.head_dim)), group(a.heads / a.kv_heads) {
    gradients = scratch.take(group * a.n * padded);
    queries = scratch.take(kQueries * padded);
    grads = scratch.take(kQueries * padded);
    scores = scratch.take(kQueries * kKeys);
    slopes = scratch.take(kQueries * kKeys);
    deltas = scratch.take(kQueries);
    keys = scratch.take(kKeys * padded);
    key_sums = scratch.take(kKeys * padded);
    value_sums = scratch.take(kKeys * padded);
    keys_transposed = scratch.take(kKeys * a.head_dim);
    values_transposed = scratch.take(kKeys * a.head_dim);
  }
  static std::int64_t floats(const AttentionBackwardArguments<T>& a) {
    const std::int64_t padded = padded_dim(a.head_dim);
    return rounded(a.heads / a.kv_heads * a.n * padded + 2 * kQueries * padded + 2 * kQueries * kKeys + kQueries + 3 * kKeys * padded + 2 * kKeys * a.head_dim + 12 * 16);
  }

  void clear(std::int64_t rows) const {
    __builtin_memset(gradients, 0, static_cast<std::size_t>(group * rows * padded) * 4);
  }

  /// The gradients by the keys and values [key, key + kKeys) of the segment, and what they add to those by the queries.
  void keys_block(std::int64_t kv_head, const Range& segment, std::int64_t key) const {
    const std::int64_t count = min_of(kKeys, segment.end - key);
    const T* k = a.k + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride;
    const T* v = a.v + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride;
    copy_rows(k, a.k_layout.width, count, a.head_dim, padded, 1.0f, keys);
    copy_transposed(k, a.k_layout.width, count, a.head_dim, keys_transposed);
    copy_transposed(v, a.v_layout.width, count, a.head_dim, values_transposed);
    __builtin_memset(key_sums, 0, static_cast<std::size_t>(kKeys * padded) * 4);
    __builtin_memset(value_sums, 0, static_cast<std::size_t>(kKeys * padded) * 4);
    // Rows that can see a key of this block.
    const std::int64_t query_begin = a.mask.causal ? key : segment.begin;
    const std::int64_t query_end = a.mask.window > 0 ? min_of(segment.end, key + count - 1 + a.mask.window) : segment.end;
    for (std::int64_t member = 0; member < group; member++) {
      float* dq = gradients + member * (segment.end - segment.begin) * padded;
      for (std::int64_t query = query_begin; query < query_end; query += kQueries) {
        block(kv_head * group + member, query, min_of(kQueries, query_end - query), key, count,
              dq + (query - segment.begin) * padded);
      }
    }
    // key_sums were taken with scaled queries: the scale is in them.
    store_rows(key_sums, count, a.dk + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride,
               a.k_layout.width);
    store_rows(value_sums, count, a.dv + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride,
               a.v_layout.width);
  }

  /// Writes dq of rows [begin, end) of the group's row list out of the sums of `parts` threads, `apart` floats apart.
  void store_queries(std::int64_t kv_head, const Range& segment, const Range& rows, const float* first, int parts,
                     std::int64_t apart) const {
    const std::int64_t length = segment.end - segment.begin;
    for (std::int64_t at = rows.begin; at < rows.end; at++) {
      T* dq = a.dq + (segment.begin + at % length) * a.q_layout.width + a.q_layout.offset +
              (kv_head * group + at / length) * a.q_layout.head_stride;
      each_vector(a.head_dim, [&](std::int64_t j, int n) {
        Floats sum = load(first + at * padded + j);
        for (int part = 1; part < parts; part++) sum += load(first + part * apart + at * padded + j);
        store_n(dq + j, sum * a.scale, n);
      });
    }
  }

  void store_rows(const float* from, std::int64_t rows, T* to, std::int64_t stride) const {
    for (std::int64_t i = 0; i < rows; i++) {
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(to + i * stride + j, load(from + i * padded + j), n); });
    }
  }

  void block(std::int64_t head, std::int64_t query, std::int64_t rows, std::int64_t key, std::int64_t count,
             float* dq) const {
    const std::int64_t width = a.heads * a.head_dim;
    const T* grad_o = a.grad_o + query * width + head * a.head_dim;
    const T* o = a.o + query * width + head * a.head_dim;
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
    const bool drops = a.dropout.random != nullptr;
    const KeptKeys kept = drops ? kept_keys(a.dropout, head) : KeptKeys{};
    const Floats kept_scale = broadcast(drops ? mask_scale(kept.masks) : 1.0f);
    for (std::int64_t i = 0; i < rows; i++) {
      const std::uint64_t bits = drops ? kept_bits(kept, query + i, key) : 0;
      float* score = scores + i * kKeys;
      float* slope = slopes + i * kKeys;
      const Range seen = visible(a.mask, query + i);
      hide(score, min_of(max_of(seen.begin - key, 0), kKeys), max_of(min_of(seen.end - key, count), 0));
      const Floats lse = broadcast(a.lse[(query + i) * a.heads + head]);
      const Floats delta = broadcast(deltas[i]);
      for (std::int64_t j = 0; j < kKeys; j += kLanes) {
        const Floats p = exp_of(load(score + j) - lse);
        Floats through = p;  // what values are weighed by
        Floats change = load(slope + j);
        if (drops) {
          through = keep_lanes(p, bits >> j) * kept_scale;
          change = keep_lanes(change, bits >> j) * kept_scale;
        }
        store(score + j, through);
        store(slope + j, p * (change - delta));
      }
    }
    block_product<true>(count, padded, rows, scores, 1, kKeys, grads, padded, value_sums, padded);
    block_product<true>(count, padded, rows, slopes, 1, kKeys, queries, padded, key_sums, padded);
    block_product<true>(rows, padded, count, slopes, kKeys, 1, keys, padded, dq, padded);
  }
};

/// Calls unit(kv_head, segment) for every unit, in order, until it returns false.
template <class Unit>
void each_unit(const AttentionMask& mask, std::int64_t n, std::int64_t kv_heads, Unit unit) {
  for (std::int64_t begin = 0; begin < n; begin = mask.ends[begin]) {
    for (std::int64_t kv_head = 0; kv_head < kv_heads; kv_head++) unit(kv_head, Range{begin, mask.ends[begin]});
  }
}

}  // namespace

template <class T>
static void attention_backward_of(const AttentionBackwardArguments<T>& a, const Team& team) {
  if (!segments_valid(a.mask, a.n, team)) return;
  const std::int64_t own = Backward<T>::floats(a);
  float* first = reinterpret_cast<float*>(team.workspace);
  const Backward<T> backward(a, Scratch{first + team.index * own});
  std::int64_t units = 0;
  each_unit(a.mask, a.n, a.kv_heads, [&](std::int64_t, const Range&) { units++; });

  if (team.count == 1 || units >= kUnitsPerThread * team.count) {
    std::int64_t unit = 0;
    std::int64_t mine = team.claim();
    each_unit(a.mask, a.n, a.kv_heads, [&](std::int64_t kv_head, const Range& segment) {
      if (unit++ != mine) return;
      backward.clear(segment.end - segment.begin);
      for (std::int64_t key = segment.begin; key < segment.end; key += kKeys) backward.keys_block(kv_head, segment, key);
      const std::int64_t rows = backward.group * (segment.end - segment.begin);
      backward.store_queries(kv_head, segment, {0, rows}, backward.gradients, 1, 0);
      mine = team.claim();
    });
    return;
  }
  each_unit(a.mask, a.n, a.kv_heads, [&](std::int64_t kv_head, const Range& segment) {
    backward.clear(segment.end - segment.begin);
    // Causal blocks of keys cost less the later they are: threads take them to and fro.
    const std::int64_t blocks = (segment.end - segment.begin + kKeys - 1) / kKeys;
    for (std::int64_t block = 0; block < blocks; block++) {
      const std::int64_t turn = block % (2 * team.count);
      const std::int64_t owner = turn < team.count ? turn : 2 * team.count - 1 - turn;
      if (owner == team.index) backward.keys_block(kv_head, segment, segment.begin + block * kKeys);
    }
    team.barrier();
    const Range rows = share(team, backward.group * (segment.end - segment.begin), 1);
    backward.store_queries(kv_head, segment, rows, first, team.count, own);
    team.barrier();
  });
}

template <class T>
static std::size_t attention_backward_workspace_of(const AttentionBackwardArguments<T>& a, int threads) {
  return static_cast<std::size_t>(Backward<T>::floats(a) * threads) * 4;
}

RL_DEFINE(attention_backward, AttentionBackwardArguments)
RL_DEFINE_WORKSPACE(attention_backward, AttentionBackwardArguments)

}  // namespace raylite::RL_ISA

// attention_backward by blocks: keys outside, queries inside, scores recomputed from lse (arXiv:2205.14135, Algorithm 4).
// What the mask hides of a block is left out, to the vector of keys and the strip of queries.
// A unit of work is (key-value head, segment). Where there are many, each is one thread's: nobody else touches its dq, dk
// and dv. Where there are few (long sequences, few key-value heads), the threads share the blocks of keys of each, and the
// partial sums of dq are added up in the order of threads.
#include "cpu/attention_blocks.h"
#include "cpu/kernels.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kUnitsPerThread = 4;
constexpr std::int64_t kQueries = 64;

/// Rows i and i + 1 (numbers of one row, then of the next) into a block that a product walks down: [rows][kKeys] floats.
RL_INLINE void store_down(float* block, std::int64_t i, std::int64_t j, Floats low, Floats high) {
  store(block + i * kKeys + j, low);
  store(block + (i + 1) * kKeys + j, high);
}
/// The same as words to walk along the rows. Floats serve both ways.
RL_INLINE void store_along(float*, std::int64_t, std::int64_t, Floats, Floats) {}
#if defined(__AVX512F__)
/// [rows / 2][kKeys] pairs of rows.
RL_INLINE void store_down(Pair* block, std::int64_t i, std::int64_t j, Floats low, Floats high) {
  _mm512_storeu_ps(block + i / 2 * kKeys + j, pair_up(to_halves(low), to_halves(high)));
}
/// [rows][kKeys / 2] pairs of columns.
RL_INLINE void store_along(Pair* block, std::int64_t i, std::int64_t j, Floats low, Floats high) {
  store_halves(block + (i * kKeys + j) / 2, to_halves(low));
  store_halves(block + ((i + 1) * kKeys + j) / 2, to_halves(high));
}
#endif

template <class T, class Word>
struct Backward {
  static constexpr bool kIsPair = !std::is_same_v<Word, float>;
  const AttentionBackwardArguments<T>& a;
  std::int64_t padded, group;
  float* gradients;  // by the queries of the heads of a group: [group, rows of the segment, padded]
  float* deltas;     // do . o: [group, rows of the segment]
  // "down": operands that a product takes one word of depth from at a time; "along": that it walks along, row by row.
  Word *queries_along, *queries_down, *grads_along, *grads_down;
  Word *keys_down, *keys_transposed, *values_transposed;
  Word *powers_down, *slopes_down, *slopes_along;
  float *products, *slopes, *key_sums, *value_sums;

  Backward(const AttentionBackwardArguments<T>& arguments, Scratch& scratch)
      : a(arguments), padded(padded_dim(a.head_dim)), group(a.heads / a.kv_heads) {
    gradients = scratch.take(group * a.n * padded);
    deltas = scratch.take(group * a.n);
    const std::int64_t along = kQueries * row_words<Word>(padded);
    const std::int64_t down = depth_words<Word>(kQueries) * padded;
    queries_down = scratch.template take<Word>(down);
    grads_down = scratch.template take<Word>(down);
    // Rows of floats serve both ways.
    queries_along = kIsPair ? scratch.template take<Word>(along) : queries_down;
    grads_along = kIsPair ? scratch.template take<Word>(along) : grads_down;
    keys_down = scratch.template take<Word>(depth_words<Word>(kKeys) * padded);
    keys_transposed = scratch.template take<Word>(depth_words<Word>(a.head_dim) * kKeys);
    values_transposed = scratch.template take<Word>(depth_words<Word>(a.head_dim) * kKeys);
    products = scratch.take(kStrip * kKeys);
    slopes = scratch.take(kStrip * kKeys);
    powers_down = scratch.template take<Word>(depth_words<Word>(kQueries) * kKeys);
    slopes_down = scratch.template take<Word>(depth_words<Word>(kQueries) * kKeys);
    slopes_along = kIsPair ? scratch.template take<Word>(kQueries * depth_words<Word>(kKeys)) : slopes_down;
    key_sums = scratch.take(kKeys * padded);
    value_sums = scratch.take(kKeys * padded);
  }

  /// Before the blocks of a unit.
  void begin(std::int64_t kv_head, const Range& segment) const {
    const std::int64_t rows = segment.end - segment.begin;
    const std::int64_t width = a.heads * a.head_dim;
    __builtin_memset(gradients, 0, static_cast<std::size_t>(group * rows * padded) * 4);
    for (std::int64_t i = 0; i < group * rows; i++) {
      const std::int64_t at = (segment.begin + i % rows) * width + (kv_head * group + i / rows) * a.head_dim;
      Floats sum{};
      each_vector(a.head_dim, [&](std::int64_t j, int n) { sum += load_n(a.grad_o + at + j, n) * load_n(a.o + at + j, n); });
      deltas[i] = sum_lanes(sum);
    }
  }

  /// The gradients by the keys and values [key, key + kKeys) of the segment, and what they add to those by the queries.
  void keys_block(std::int64_t kv_head, const Range& segment, std::int64_t key) const {
    const std::int64_t count = min_of(kKeys, segment.end - key);
    const T* k = a.k + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride;
    const T* v = a.v + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride;
    copy_values(k, a.k_layout.width, count, a.head_dim, padded, keys_down);
    copy_transposed(k, a.k_layout.width, count, a.head_dim, keys_transposed);
    copy_transposed(v, a.v_layout.width, count, a.head_dim, values_transposed);
    __builtin_memset(key_sums, 0, static_cast<std::size_t>(kKeys * padded) * 4);
    __builtin_memset(value_sums, 0, static_cast<std::size_t>(kKeys * padded) * 4);
    // Rows that can see a key of this block.
    const std::int64_t query_begin = a.mask.causal ? key : segment.begin;
    const std::int64_t query_end = a.mask.window > 0 ? min_of(segment.end, key + count - 1 + a.mask.window) : segment.end;
    const std::int64_t length = segment.end - segment.begin;
    for (std::int64_t member = 0; member < group; member++) {
      for (std::int64_t query = query_begin; query < query_end; query += kQueries) {
        const std::int64_t at = member * length + query - segment.begin;
        block(kv_head * group + member, {query, min_of(query + kQueries, query_end)}, key, count, deltas + at, gradients + at * padded);
      }
    }
    store_rows(key_sums, count, a.scale, a.dk + key * a.k_layout.width + a.k_layout.offset + kv_head * a.k_layout.head_stride,
               a.k_layout.width);
    store_rows(value_sums, count, 1.0f, a.dv + key * a.v_layout.width + a.v_layout.offset + kv_head * a.v_layout.head_stride,
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

  void store_rows(const float* from, std::int64_t rows, float factor, T* to, std::int64_t stride) const {
    for (std::int64_t i = 0; i < rows; i++) {
      each_vector(a.head_dim, [&](std::int64_t j, int n) { store_n(to + i * stride + j, load(from + i * padded + j) * factor, n); });
    }
  }

  void block(std::int64_t head, const Range& queries, std::int64_t key, std::int64_t count, const float* delta, float* dq) const {
    const std::int64_t rows = queries.end - queries.begin;
    const std::int64_t width = a.heads * a.head_dim;
    const T* q = a.q + queries.begin * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride;
    const T* grad_o = a.grad_o + queries.begin * width + head * a.head_dim;
    copy_values(q, a.q_layout.width, rows, a.head_dim, padded, queries_down);
    copy_values(grad_o, width, rows, a.head_dim, padded, grads_down);
    if constexpr (kIsPair) {
      copy_rows(q, a.q_layout.width, rows, a.head_dim, padded, queries_along);
      copy_rows(grad_o, width, rows, a.head_dim, padded, grads_along);
    }
    for (std::int64_t i = 0; i < rows; i += kStrip) {
      strip(head, queries.begin, {i, min_of(i + kStrip, rows)}, key, count, delta, dq);
    }
    // By the keys: a strip of them is seen by no query before its first one, and by none beyond the window of its last one.
    for (std::int64_t j = 0; j < count; j += kStrip) {
      const std::int64_t height = min_of(kStrip, count - j);
      std::int64_t first = 0;
      std::int64_t last = rows;
      if (a.mask.causal) first = max_of(first, key + j - queries.begin);
      if (a.mask.window > 0) last = min_of(last, key + j + height - 1 + a.mask.window - queries.begin);
      if (first >= last) continue;
      first = first / 2 * 2;
      const std::int64_t from = kIsPair ? first / 2 : first;
      const std::int64_t depth = depth_words<Word>(last) - from;
      block_product<true>(height, padded, depth, powers_down + from * kKeys + j, 1, kKeys, grads_down + from * padded, padded,
                          value_sums + j * padded, padded);
      block_product<true>(height, padded, depth, slopes_down + from * kKeys + j, 1, kKeys, queries_down + from * padded, padded,
                          key_sums + j * padded, padded);
    }
  }

  /// Powers and slopes of `rows` of the block of queries that begins at `query`, and what they add to dq.
  void strip(std::int64_t head, std::int64_t query, const Range& rows, std::int64_t key, std::int64_t count, const float* delta,
             float* dq) const {
    const std::int64_t begin = seen_of_block(a.mask, query + rows.begin, key, count).begin;
    const std::int64_t end = seen_of_block(a.mask, query + rows.end - 1, key, count).end;
    const bool is_hidden = begin >= end;
    const std::int64_t from = is_hidden ? 0 : begin / kLanes * kLanes;
    const std::int64_t to = is_hidden ? 0 : (end + kLanes - 1) / kLanes * kLanes;
    const std::int64_t height = rows.end - rows.begin;
    const std::int64_t along = row_words<Word>(padded);
    const std::int64_t depth = depth_words<Word>(a.head_dim);
    block_product<false>(height, to - from, depth, queries_along + rows.begin * along, along, 1, keys_transposed + from, kKeys,
                         products + from, kKeys);
    block_product<false>(height, to - from, depth, grads_along + rows.begin * along, along, 1, values_transposed + from, kKeys,
                         slopes + from, kKeys);
    // What is hidden counts as 0 in the sums over queries.
    for (std::int64_t i = 0; i < height; i += 2) {
      const auto clear = [&](std::int64_t j) {
        store_down(powers_down, rows.begin + i, j, Floats{}, Floats{});
        store_down(slopes_down, rows.begin + i, j, Floats{}, Floats{});
      };
      for (std::int64_t j = 0; j < from; j += kLanes) clear(j);
      for (std::int64_t j = to; j < kKeys; j += kLanes) clear(j);
      const Row low(*this, head, query + rows.begin + i, key, count, delta[rows.begin + i], true);
      const bool is_two = i + 1 < height;
      const Row high(*this, head, query + rows.begin + i + (is_two ? 1 : 0), key, count, delta[rows.begin + i + (is_two ? 1 : 0)], is_two);
      for (std::int64_t j = from; j < to; j += kLanes) {
        const Floats low_power = low.power(products + i * kKeys, j);
        const Floats high_power = high.power(products + (i + 1) * kKeys, j);
        const Floats low_slope = low_power * (low.kept(load(slopes + i * kKeys + j), j) - low.delta);
        const Floats high_slope = is_two ? high_power * (high.kept(load(slopes + (i + 1) * kKeys + j), j) - high.delta) : Floats{};
        store_down(powers_down, rows.begin + i, j, low.kept(low_power, j), high.kept(high_power, j));
        store_down(slopes_down, rows.begin + i, j, low_slope, high_slope);
        store_along(slopes_along, rows.begin + i, j, low_slope, high_slope);
      }
    }
    if (is_hidden) return;
    const std::int64_t first = kIsPair ? begin / 2 : begin;
    const std::int64_t row = depth_words<Word>(kKeys);
    block_product<true>(height, padded, depth_words<Word>(end) - first, slopes_along + rows.begin * row + first, row, 1,
                        keys_down + first * padded, padded, dq + rows.begin * padded, padded);
  }

  /// One query beside a block of keys.
  struct Row {
    Range seen;
    Floats lse, delta;
    float factor;
    std::uint64_t kept_keys = 0;
    Floats kept_scale;
    bool drops;
    Row(const Backward& at, std::int64_t head, std::int64_t i, std::int64_t key, std::int64_t count, float row_delta, bool exists)
        : seen(exists ? seen_of_block(at.a.mask, i, key, count) : Range{0, 0}),
          lse(broadcast(at.a.lse[i * at.a.heads + head] * kLog2E)),
          delta(broadcast(row_delta)),
          factor(at.a.scale * kLog2E),
          drops(at.a.dropout.random != nullptr) {
      if (!drops) return;
      const KeptKeys kept = RL_ISA::kept_keys(at.a.dropout, head);
      kept_keys = kept_bits(kept, i, key);
      kept_scale = broadcast(mask_scale(kept.masks));
    }
    /// What dropout leaves of numbers by the keys from j on.
    Floats kept(Floats x, std::int64_t j) const { return drops ? keep_lanes(x, kept_keys >> j) * kept_scale : x; }
    /// Its weights of kLanes keys from j on.
    Floats power(const float* products, std::int64_t j) const {
      if (j >= seen.begin && j + kLanes <= seen.end) return exp2_of(load(products + j) * factor - lse);
      if (j >= seen.end || j + kLanes <= seen.begin) return Floats{};
      return exp2_of(hidden_outside(load(products + j) * factor, j, seen.begin, seen.end) - lse);
    }
  };
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
  std::int64_t units = 0;
  each_unit(a.mask, a.n, a.kv_heads, [&](std::int64_t, const Range&) { units++; });
  with_word<T>([&](auto word) {
    using Word = decltype(word);
    Scratch size{nullptr};
    Backward<T, Word>(a, size);
    float* first = reinterpret_cast<float*>(team.workspace);
    Scratch scratch{first + team.index * size.words};
    const Backward<T, Word> backward(a, scratch);
    if (team.count == 1 || units >= kUnitsPerThread * team.count) {
      std::int64_t unit = 0;
      std::int64_t mine = team.claim();
      each_unit(a.mask, a.n, a.kv_heads, [&](std::int64_t kv_head, const Range& segment) {
        if (unit++ != mine) return;
        backward.begin(kv_head, segment);
        for (std::int64_t key = segment.begin; key < segment.end; key += kKeys) backward.keys_block(kv_head, segment, key);
        const std::int64_t rows = backward.group * (segment.end - segment.begin);
        backward.store_queries(kv_head, segment, {0, rows}, backward.gradients, 1, 0);
        mine = team.claim();
      });
      return;
    }
    each_unit(a.mask, a.n, a.kv_heads, [&](std::int64_t kv_head, const Range& segment) {
      backward.begin(kv_head, segment);
      // Causal blocks of keys cost less the later they are: threads take them to and fro.
      const std::int64_t blocks = (segment.end - segment.begin + kKeys - 1) / kKeys;
      for (std::int64_t block = 0; block < blocks; block++) {
        const std::int64_t turn = block % (2 * team.count);
        const std::int64_t owner = turn < team.count ? turn : 2 * team.count - 1 - turn;
        if (owner == team.index) backward.keys_block(kv_head, segment, segment.begin + block * kKeys);
      }
      team.barrier();
      const Range rows = share(team, backward.group * (segment.end - segment.begin), 1);
      backward.store_queries(kv_head, segment, rows, first, team.count, size.words);
      team.barrier();
    });
  });
}

template <class T>
static std::size_t attention_backward_workspace_of(const AttentionBackwardArguments<T>& a, int threads) {
  return with_word<T>([&](auto word) {
    Scratch size{nullptr};
    Backward<T, decltype(word)>(a, size);
    return static_cast<std::size_t>(size.words * threads) * 4;
  });
}

RL_DEFINE(attention_backward, AttentionBackwardArguments)
RL_DEFINE_WORKSPACE(attention_backward, AttentionBackwardArguments)

}  // namespace raylite::RL_ISA

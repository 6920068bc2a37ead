// Attention of 16-bit numbers on tensor cores: tiles of queries and keys in shared memory, scores and their softmax in registers
// (arXiv:2307.08691). A block has 64 queries of a head forward and for dq, 64 keys of a key-value head for dk and dv: every
// gradient has one owner and one order. Weights and slopes are rounded to T for their products; sums stay f32.
#include "cuda/attention_rows.cuh"
#include "cuda/attention_tiles.h"
#include "cuda/mma.cuh"

namespace raylite::cuda {

namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.69314718055994531f;
constexpr int kRows = 64;     // of a block, 16 for each warp
constexpr int kStretch = 32;  // of what a block walks over
constexpr int kThreads = 128;

/// A row of a tile in shared memory: 16 bytes more than its numbers, so that rows of a matrix lie in different banks.
template <int kDim>
constexpr int kRow = kDim + 8;

/// One head's rows in memory.
template <class T>
struct HeadRows {
  const T* at;
  std::int64_t width;
  __device__ HeadRows(const T* p, const HeadLayout& layout, std::int64_t head) : at(p + layout.offset + head * layout.head_stride), width(layout.width) {}
  __device__ HeadRows(const T* p, std::int64_t heads, std::int64_t head_dim, std::int64_t head) : at(p + head * head_dim), width(heads * head_dim) {}
};

/// Two stages of two tiles of kStretch rows: what a block walks over. By arithmetic: an array of pointers would lie in memory.
template <int kDim, class T>
struct Stages {
  T* begin;
  __device__ T* first(int stage) const { return begin + stage * (2 * kStretch * kRow<kDim>); }
  __device__ T* second(int stage) const { return first(stage) + kStretch * kRow<kDim>; }
};

/// Starts the copies of rows [first, first + kCount) of a head; rows beyond n and columns beyond `dim` become zeros.
template <int kDim, int kCount, class T>
__device__ inline void copy_tile(T* to, const HeadRows<T>& rows, std::int64_t first, std::int64_t n, std::int64_t dim) {
  constexpr int kChunks = kDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kCount * kChunks; i += kThreads) {
    const int row = i / kChunks, column = i % kChunks * 8;
    const bool is_there = first + row < n && column < dim;
    copy_ahead(to + row * kRow<kDim> + column, is_there ? rows.at + (first + row) * rows.width + column : rows.at, is_there);
  }
}

/// Starts the copies of the tiles of a stage: rows [row, row + kStretch) of two heads.
template <int kDim, class T>
__device__ inline void copy_stage(const Stages<kDim, T>& to, int stage, const HeadRows<T>& first, const HeadRows<T>& second, std::int64_t row, std::int64_t n,
                                  std::int64_t dim) {
  copy_tile<kDim, kStretch>(to.first(stage), first, row, n, dim);
  copy_tile<kDim, kStretch>(to.second(stage), second, row, n, dim);
  end_copies();
}

/// A fragment of 16 rows and 16 columns of a tile, as the left operand.
template <int kDim, class T>
__device__ inline void load_left(std::uint32_t (&a)[4], const T* tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32), i = lane / 8, r = lane % 8;
  load_matrices(a, tile + (row + i % 2 * 8 + r) * kRow<kDim> + column + i / 2 * 8);
}
/// Two right operands: the products run over columns column .. column + 15, their columns are rows row .. row + 15 of the tile.
template <int kDim, class T>
__device__ inline void load_right(std::uint32_t (&b)[4], const T* tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32), i = lane / 8, r = lane % 8;
  load_matrices(b, tile + (row + i / 2 * 8 + r) * kRow<kDim> + column + i % 2 * 8);
}
/// Two right operands: the products run over rows row .. row + 15, their columns are columns column .. column + 15 of the tile.
template <int kDim, class T>
__device__ inline void load_right_down(std::uint32_t (&b)[4], const T* tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x % 32), i = lane / 8, r = lane % 8;
  load_transposed(b, tile + (row + i % 2 * 8 + r) * kRow<kDim> + column + i / 2 * 8);
}

/// c[kColumns / 8] (+)= rows row .. row + 15 of `left` times the rows of `right`, which are kColumns, along their kDim columns.
template <class T, int kDim, int kColumns>
__device__ inline void multiply_rows(float (&c)[kColumns / 8][4], const T* left, int row, const T* right) {
  RL_UNROLL
  for (int k = 0; k < kDim; k += 16) {
    std::uint32_t a[4];
    load_left<kDim>(a, left, row, k);
    RL_UNROLL
    for (int j = 0; j < kColumns; j += 16) {
      std::uint32_t b[4];
      load_right<kDim>(b, right, j, k);
      multiply_add<T>(c[j / 8], a, {b[0], b[1]});
      multiply_add<T>(c[j / 8 + 1], a, {b[2], b[3]});
    }
  }
}

/// sums[kDim / 8] += weights (16 rows of kDepth, in registers) times the kDepth rows of `right`.
template <class T, int kDim, int kDepth>
__device__ inline void add_weighted(float (&sums)[kDim / 8][4], const float (&weights)[kDepth / 8][4], const T* right) {
  RL_UNROLL
  for (int k = 0; k < kDepth; k += 16) {
    const auto& low = weights[k / 8];
    const auto& high = weights[k / 8 + 1];
    const std::uint32_t a[4] = {pack_pair<T>(low[0], low[1]), pack_pair<T>(low[2], low[3]), pack_pair<T>(high[0], high[1]), pack_pair<T>(high[2], high[3])};
    RL_UNROLL
    for (int j = 0; j < kDim; j += 16) {
      std::uint32_t b[4];
      load_right_down<kDim>(b, right, k, j);
      multiply_add<T>(sums[j / 8], a, {b[0], b[1]});
      multiply_add<T>(sums[j / 8 + 1], a, {b[2], b[3]});
    }
  }
}

/// Writes 16 rows of sums: row `row` of this thread's group and the eighth after it.
template <class T, int kDim>
__device__ inline void store_sums(T* to, std::int64_t width, std::int64_t row, std::int64_t n, std::int64_t dim, const float (&sums)[kDim / 8][4],
                                  const float (&factors)[2]) {
  const int t = static_cast<int>(threadIdx.x % 4);
  RL_UNROLL
  for (int half = 0; half < 2; half++) {
    const std::int64_t at = row + 8 * half;
    if (at >= n) continue;
    RL_UNROLL
    for (int j = 0; j < kDim; j += 8) {
      const int column = j + 2 * t;
      if (column >= dim) continue;
      const std::uint32_t pair = pack_pair<T>(sums[j / 8][2 * half] * factors[half], sums[j / 8][2 * half + 1] * factors[half]);
      *reinterpret_cast<std::uint32_t*>(to + at * width + column) = pair;
    }
  }
}

/// What a row sees, or nothing for a row that is not there.
__device__ inline Seen seen_or_nothing(const AttentionMask& mask, std::int64_t row, std::int64_t n) {
  return row < n ? seen_by(mask, row, n) : Seen{0, 0};
}

/// The sum over the four threads that have a row between them.
template <class Op>
__device__ inline float reduce_four(float x, Op op) {
  x = op(x, __shfl_xor_sync(kFull, x, 1));
  return op(x, __shfl_xor_sync(kFull, x, 2));
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) forward_kernel(AttentionArguments<T> a, Masks masks, float kept, Fault fault) {
  RL_DYNAMIC_SHARED(shared);
  T* queries = reinterpret_cast<T*>(shared);
  const Stages<kDim, T> keys{queries + kRows * kRow<kDim>};
  const std::int64_t first = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y;  // the longest rows first
  const int warp = static_cast<int>(threadIdx.x / 32), g = static_cast<int>(threadIdx.x % 32 / 4), t = static_cast<int>(threadIdx.x % 4);
  const std::int64_t kv_head = head / (a.heads / a.kv_heads), last = first + kRows < a.n ? first + kRows - 1 : a.n - 1;
  if (head == 0 && threadIdx.x < kRows && first + threadIdx.x < a.n && !is_segment_row(a.mask, first + threadIdx.x, a.n)) report(fault, first + threadIdx.x);
  const HeadRows<T> q(a.q, a.q_layout, head), k(a.k, a.k_layout, kv_head), v(a.v, a.v_layout, kv_head);
  const std::int64_t row = first + 16 * warp + g;
  const Seen seen[2] = {seen_or_nothing(a.mask, row, a.n), seen_or_nothing(a.mask, row + 8, a.n)};
  const std::int64_t begin = seen_by(a.mask, first, a.n).begin, end = seen_by(a.mask, last, a.n).end;
  copy_tile<kDim, kRows>(queries, q, first, a.n, a.head_dim);
  copy_stage(keys, 0, k, v, begin, a.n, a.head_dim);

  const float factor = a.scale * kLog2E;
  float sums[kDim / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
  int stage = 0;
  for (std::int64_t key = begin; key < end; key += kStretch, stage ^= 1) {
    copy_stage(keys, stage ^ 1, k, v, key + kStretch, a.n, a.head_dim);  // what lies beyond the end is not used
    await_copies<1>();
    __syncthreads();
    float scores[kStretch / 8][4] = {};
    multiply_rows<T, kDim, kStretch>(scores, queries, 16 * warp, keys.first(stage));
    RL_UNROLL
    for (int half = 0; half < 2; half++) {
      float most = -INFINITY;
      RL_UNROLL
      for (int j = 0; j < kStretch / 8; j++) {
        RL_UNROLL
        for (int i = 0; i < 2; i++) {
          const std::int64_t at = key + 8 * j + 2 * t + i;
          float& score = scores[j][2 * half + i];
          score = at >= seen[half].begin && at < seen[half].end ? score * factor : -INFINITY;
          most = fmaxf(most, score);
        }
      }
      most = fmaxf(top[half], reduce_four(most, Larger{}));
      const float base = most == -INFINITY ? 0.0f : most;
      const float shrink = exp2f(top[half] - base);
      top[half] = most;
      float sum = 0;
      RL_UNROLL
      for (int j = 0; j < kStretch / 8; j++) {
        RL_UNROLL
        for (int i = 0; i < 2; i++) {
          float& weight = scores[j][2 * half + i];
          weight = exp2f(weight - base);
          sum += weight;
          if (masks.random != nullptr && !keeps_key(masks, head, row + 8 * half, key + 8 * j + 2 * t + i)) weight = 0;
        }
      }
      total[half] = total[half] * shrink + sum;
      RL_UNROLL
      for (int j = 0; j < kDim / 8; j++) {
        sums[j][2 * half] *= shrink;
        sums[j][2 * half + 1] *= shrink;
      }
    }
    add_weighted<T, kDim, kStretch>(sums, scores, keys.second(stage));
    __syncthreads();  // before the next copies fall on these keys
  }
  await_copies<0>();
  float factors[2];
  RL_UNROLL
  for (int half = 0; half < 2; half++) {
    const float sum = reduce_four(total[half], Plus{});
    factors[half] = kept / sum;
    if (t == 0 && row + 8 * half < a.n) a.lse[(row + 8 * half) * a.heads + head] = top[half] * kLn2 + logf(sum);
  }
  store_sums<T, kDim>(a.o + head * a.head_dim, a.heads * a.head_dim, row, a.n, a.head_dim, sums, factors);
}

/// Of one weight: its slope, out of the score, the product of the values, and what the row has.
struct Slope {
  float weight, slope;
};
__device__ inline Slope slope_of(float score, float gain, float factor, float lse, float delta, bool is_seen, float scale) {
  if (!is_seen) return {0.0f, 0.0f};
  const float weight = exp2f(score * factor - lse * kLog2E);
  return {weight * scale, weight * (gain * scale - delta)};
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) query_gradient_kernel(AttentionBackwardArguments<T> a, const float* deltas, Masks masks, float kept, Fault fault) {
  RL_DYNAMIC_SHARED(shared);
  T* queries = reinterpret_cast<T*>(shared);
  T* grads = queries + kRows * kRow<kDim>;
  const Stages<kDim, T> keys{grads + kRows * kRow<kDim>};
  const std::int64_t first = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * kRows, head = blockIdx.y;
  const int warp = static_cast<int>(threadIdx.x / 32), g = static_cast<int>(threadIdx.x % 32 / 4), t = static_cast<int>(threadIdx.x % 4);
  const std::int64_t kv_head = head / (a.heads / a.kv_heads), last = first + kRows < a.n ? first + kRows - 1 : a.n - 1;
  if (head == 0 && threadIdx.x < kRows && first + threadIdx.x < a.n && !is_segment_row(a.mask, first + threadIdx.x, a.n)) report(fault, first + threadIdx.x);
  const HeadRows<T> q(a.q, a.q_layout, head), grad(a.grad_o, a.heads, a.head_dim, head), k(a.k, a.k_layout, kv_head), v(a.v, a.v_layout, kv_head);
  const std::int64_t row = first + 16 * warp + g;
  const Seen seen[2] = {seen_or_nothing(a.mask, row, a.n), seen_or_nothing(a.mask, row + 8, a.n)};
  float lse[2] = {}, delta[2] = {};
  RL_UNROLL
  for (int half = 0; half < 2; half++) {
    if (row + 8 * half >= a.n) continue;
    lse[half] = a.lse[(row + 8 * half) * a.heads + head];
    delta[half] = deltas[(row + 8 * half) * a.heads + head];
  }
  const std::int64_t begin = seen_by(a.mask, first, a.n).begin, end = seen_by(a.mask, last, a.n).end;
  copy_tile<kDim, kRows>(queries, q, first, a.n, a.head_dim);
  copy_tile<kDim, kRows>(grads, grad, first, a.n, a.head_dim);
  copy_stage(keys, 0, k, v, begin, a.n, a.head_dim);

  const float factor = a.scale * kLog2E;
  float sums[kDim / 8][4] = {};
  int stage = 0;
  for (std::int64_t key = begin; key < end; key += kStretch, stage ^= 1) {
    copy_stage(keys, stage ^ 1, k, v, key + kStretch, a.n, a.head_dim);
    await_copies<1>();
    __syncthreads();
    float scores[kStretch / 8][4] = {}, gains[kStretch / 8][4] = {};
    multiply_rows<T, kDim, kStretch>(scores, queries, 16 * warp, keys.first(stage));
    multiply_rows<T, kDim, kStretch>(gains, grads, 16 * warp, keys.second(stage));
    RL_UNROLL
    for (int j = 0; j < kStretch / 8; j++) {
      RL_UNROLL
      for (int i = 0; i < 4; i++) {
        const int half = i / 2;
        const std::int64_t at = key + 8 * j + 2 * t + i % 2;
        const bool is_seen = at >= seen[half].begin && at < seen[half].end;
        const float scale = masks.random == nullptr || !is_seen || keeps_key(masks, head, row + 8 * half, at) ? kept : 0.0f;
        scores[j][i] = slope_of(scores[j][i], gains[j][i], factor, lse[half], delta[half], is_seen, scale).slope;
      }
    }
    add_weighted<T, kDim, kStretch>(sums, scores, keys.first(stage));
    __syncthreads();
  }
  await_copies<0>();
  store_sums<T, kDim>(a.dq + a.q_layout.offset + head * a.q_layout.head_stride, a.q_layout.width, row, a.n, a.head_dim, sums, {a.scale, a.scale});
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads) key_gradient_kernel(AttentionBackwardArguments<T> a, const float* deltas, Masks masks, float kept) {
  RL_DYNAMIC_SHARED(shared);
  T* keys = reinterpret_cast<T*>(shared);
  T* values = keys + kRows * kRow<kDim>;
  const Stages<kDim, T> queries{values + kRows * kRow<kDim>};
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kRows, kv_head = blockIdx.y;
  const int warp = static_cast<int>(threadIdx.x / 32), g = static_cast<int>(threadIdx.x % 32 / 4), t = static_cast<int>(threadIdx.x % 4);
  const std::int64_t group = a.heads / a.kv_heads, last = first + kRows < a.n ? first + kRows - 1 : a.n - 1;
  const HeadRows<T> k(a.k, a.k_layout, kv_head), v(a.v, a.v_layout, kv_head);
  const std::int64_t key = first + 16 * warp + g;
  const std::int64_t begin = seeing(a.mask, first, a.n).begin, end = seeing(a.mask, last, a.n).end;
  const Seen seen[2] = {key < a.n ? seeing(a.mask, key, a.n) : Seen{0, 0}, key + 8 < a.n ? seeing(a.mask, key + 8, a.n) : Seen{0, 0}};
  copy_tile<kDim, kRows>(keys, k, first, a.n, a.head_dim);
  copy_tile<kDim, kRows>(values, v, first, a.n, a.head_dim);

  const float factor = a.scale * kLog2E;
  float key_sums[kDim / 8][4] = {}, value_sums[kDim / 8][4] = {};
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
    const HeadRows<T> q(a.q, a.q_layout, head), grad(a.grad_o, a.heads, a.head_dim, head);
    copy_stage(queries, 0, q, grad, begin, a.n, a.head_dim);
    int stage = 0;
    for (std::int64_t row = begin; row < end; row += kStretch, stage ^= 1) {
      copy_stage(queries, stage ^ 1, q, grad, row + kStretch, a.n, a.head_dim);
      await_copies<1>();
      __syncthreads();
      float scores[kStretch / 8][4] = {}, gains[kStretch / 8][4] = {};  // by keys, then queries
      multiply_rows<T, kDim, kStretch>(scores, keys, 16 * warp, queries.first(stage));
      multiply_rows<T, kDim, kStretch>(gains, values, 16 * warp, queries.second(stage));
      RL_UNROLL
      for (int j = 0; j < kStretch / 8; j++) {
        RL_UNROLL
        for (int i = 0; i < 4; i++) {
          const int half = i / 2;
          const std::int64_t at = row + 8 * j + 2 * t + i % 2;
          const bool is_seen = at >= seen[half].begin && at < seen[half].end;
          const float lse = is_seen ? a.lse[at * a.heads + head] : 0.0f, delta = is_seen ? deltas[at * a.heads + head] : 0.0f;
          const float scale = masks.random == nullptr || !is_seen || keeps_key(masks, head, at, key + 8 * half) ? kept : 0.0f;
          const Slope found = slope_of(scores[j][i], gains[j][i], factor, lse, delta, is_seen, scale);
          scores[j][i] = found.weight;
          gains[j][i] = found.slope;
        }
      }
      add_weighted<T, kDim, kStretch>(value_sums, scores, queries.second(stage));
      add_weighted<T, kDim, kStretch>(key_sums, gains, queries.first(stage));
      __syncthreads();
    }
    await_copies<0>();
    __syncthreads();
  }
  store_sums<T, kDim>(a.dk + a.k_layout.offset + kv_head * a.k_layout.head_stride, a.k_layout.width, key, a.n, a.head_dim, key_sums, {a.scale, a.scale});
  store_sums<T, kDim>(a.dv + a.v_layout.offset + kv_head * a.v_layout.head_stride, a.v_layout.width, key, a.n, a.head_dim, value_sums, {1.0f, 1.0f});
}

/// Bytes of `tiles` tiles of a block's rows and two stages of two of what it walks over.
template <int kDim>
constexpr std::size_t kSharedBytes(int tiles) {
  return static_cast<std::size_t>((tiles * kRows + 4 * kStretch) * kRow<kDim>) * 2;
}

dim3 grid_of_tiles(std::int64_t rows, std::int64_t heads) { return dim3(grid_of(parts(rows, kRows)).x, static_cast<unsigned>(heads)); }

template <int kDim, class T>
void forward(const AttentionArguments<T>& a, const Fault& fault, const Queue& queue) {
  launch(queue, grid_of_tiles(a.n, a.heads), dim3(kThreads), kSharedBytes<kDim>(1), forward_kernel<T, kDim>, a, masks_of(a.dropout), kept_scale(a.dropout), fault);
}

template <int kDim, class T>
void backward(const AttentionBackwardArguments<T>& a, const float* deltas, const Fault& fault, const Queue& queue) {
  const Masks masks = masks_of(a.dropout);
  const float kept = kept_scale(a.dropout);
  launch(queue, grid_of_tiles(a.n, a.heads), dim3(kThreads), kSharedBytes<kDim>(2), query_gradient_kernel<T, kDim>, a, deltas, masks, kept, fault);
  launch(queue, grid_of_tiles(a.n, a.kv_heads), dim3(kThreads), kSharedBytes<kDim>(2), key_gradient_kernel<T, kDim>, a, deltas, masks, kept);
}

}  // namespace

template <class T>
void attend_by_tiles(const AttentionArguments<T>& a, const Fault& fault, const Queue& queue) {
  if (a.head_dim <= 64) forward<64>(a, fault, queue);
  else forward<128>(a, fault, queue);
}

template <class T>
void attend_back_by_tiles(const AttentionBackwardArguments<T>& a, const float* deltas, const Fault& fault, const Queue& queue) {
  if (a.head_dim <= 64) backward<64>(a, deltas, fault, queue);
  else backward<128>(a, deltas, fault, queue);
}

template void attend_by_tiles(const AttentionArguments<BFloat16>&, const Fault&, const Queue&);
template void attend_by_tiles(const AttentionArguments<Float16>&, const Fault&, const Queue&);
template void attend_back_by_tiles(const AttentionBackwardArguments<BFloat16>&, const float*, const Fault&, const Queue&);
template void attend_back_by_tiles(const AttentionBackwardArguments<Float16>&, const float*, const Fault&, const Queue&);

}  // namespace raylite::cuda

// kv_append, attention_cached: a warp per row and head; in a block of the cache keys lie side by side, a lane has two of them. Where rows
// and heads are too few to fill a GPU, the keys of a row are cut into parts, a warp each, whose sums a second kernel unites
// (flash-decoding; the rule of united maxima is that of arXiv:1805.02867). How many there are follows from shapes alone, and so does the order of sums.
#include <algorithm>

#include "cuda/attention_rows.cuh"
#include "cuda/elements.cuh"
#include "cuda/kernels.h"

namespace raylite::cuda {

namespace {

constexpr std::int64_t kTokens = kCacheBlockTokens;

struct PlaceFaults {
  Fault slots, positions, blocks;
};
PlaceFaults faults_of(const CachePlaces& at, Queue& queue) {
  return {queue.faults->expect(queue, "slots", at.slots, 0, at.s), queue.faults->expect(queue, "positions", at.positions, 0, at.m * kTokens),
          queue.faults->expect(queue, "blocks", at.blocks, 0, at.b)};
}

/// Whether the row's place and all blocks before it are in the cache.
__device__ inline bool in_cache(const CachePlaces& at, std::int64_t i, const PlaceFaults& faults, bool reports) {
  if (at.slots[i] < 0 || at.slots[i] >= at.s) {
    if (reports) report(faults.slots, i);
    return false;
  }
  if (at.positions[i] < 0 || at.positions[i] >= at.m * kTokens) {
    if (reports) report(faults.positions, i);
    return false;
  }
  const std::int32_t* table = at.blocks + at.slots[i] * at.m;
  for (std::int64_t j = 0; j <= at.positions[i] / kTokens; j++) {
    if (table[j] >= 0 && table[j] < at.b) continue;
    if (reports) report(faults.blocks, at.slots[i] * at.m + j);
    return false;
  }
  return true;
}

/// Element i of the rows of keys and values, [N, G*C].
template <class T>
struct Append {
  KvAppendArguments<T> a;
  PlaceFaults faults;
  template <int W>
  __device__ void at(std::int64_t i) const {
    const std::int64_t width = a.kv_heads * a.head_dim, row = i / width, column = i % width;
    if (!in_cache(a.places, row, faults, column == 0)) return;
    const std::int64_t head = column / a.head_dim, c = column % a.head_dim;
    const std::int64_t block = a.places.blocks[a.places.slots[row] * a.places.m + a.places.positions[row] / kTokens];
    const std::int64_t token = a.places.positions[row] % kTokens;
    a.cache_k[(block * width + column) * kTokens + token] = a.k[row * a.k_layout.width + a.k_layout.offset + head * a.k_layout.head_stride + c];
    a.cache_v[(block * kTokens + token) * width + column] = a.v[row * a.v_layout.width + a.v_layout.offset + head * a.v_layout.head_stride + c];
  }
};

constexpr std::int64_t kWarpsWanted = 1024;  // about what keeps the memory of a large GPU busy
constexpr std::int64_t kPartTokens = 128;    // a part of less is not worth its own warp
constexpr std::int64_t kPartsMax = 32;

/// Into how many parts the keys of each row are cut.
template <class T>
std::int64_t parts_of(const AttentionCachedArguments<T>& a) {
  const std::int64_t wanted = kWarpsWanted / (a.n * a.heads), most = a.places.m * kTokens / kPartTokens;
  return std::max<std::int64_t>(1, std::min({wanted, most, kPartsMax}));
}

/// What a part of a row's keys comes to: its largest score, the sum of its weights, and behind them the C weighted sums.
__host__ __device__ inline std::int64_t part_floats(std::int64_t head_dim) { return head_dim + 2; }

/// The keys of part `part` of `count`: whole blocks of the cache, but for where the row's keys begin and end.
__device__ inline Seen part_of(const Seen& all, int part, int count) {
  const std::int64_t first = all.begin / kTokens, length = (all.end + kTokens - 1) / kTokens - first;
  const std::int64_t per = (length + count - 1) / count * kTokens, begin = first * kTokens + part * per;
  const std::int64_t end = begin + per;
  return {begin < all.begin ? all.begin : begin, end < all.end ? end : all.end};
}

/// `parts` null: the whole row, else part blockIdx.z of it, to parts[row][head][part].
template <class T, int kPer>
__global__ void __launch_bounds__(kWarpThreads) cached_kernel(AttentionCachedArguments<T> a, PlaceFaults faults, float* parts) {
  RL_DYNAMIC_SHARED(shared);
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp, head = blockIdx.y;
  if (row >= a.n || !in_cache(a.places, row, faults, head == 0 && lane == 0)) return;
  const std::int64_t width = a.kv_heads * a.head_dim, kv_head = head / (a.heads / a.kv_heads);
  const std::int32_t* table = a.places.blocks + a.places.slots[row] * a.places.m;
  const std::int64_t position = a.places.positions[row];
  const std::int64_t from = a.window > 0 && position - a.window + 1 > 0 ? position - a.window + 1 : 0;
  const Seen keys = part_of({from, position + 1}, static_cast<int>(blockIdx.z), static_cast<int>(gridDim.z));
  float* query = reinterpret_cast<float*>(shared) + warp * (a.head_dim + 32);
  float* weights = query + a.head_dim;
  stage_row(a.q + row * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride, a.head_dim, query);
  __syncwarp();
  OnlineRow<kPer> sums;
  for (std::int64_t first = keys.begin / 32 * 32; first < keys.end; first += 32) {
    const std::int64_t block = table[first / kTokens], token = first % kTokens + lane;
    const T* k = a.cache_k + (block * width + kv_head * a.head_dim) * kTokens + token;
    float score = 0;
    for (std::int64_t c = 0; c < a.head_dim; c++) score += query[c] * widen(k[c * kTokens]);
    const bool is_seen = first + lane >= keys.begin && first + lane < keys.end;
    const float weight = sums.take(is_seen ? score * a.scale : -INFINITY);
    __syncwarp();
    weights[lane] = is_seen ? weight : 0.0f;
    __syncwarp();
    const std::int64_t left = keys.end - first;
    add_rows(sums.sums, weights, static_cast<int>(left < 32 ? left : 32), a.cache_v + (block * kTokens + first % kTokens) * width + kv_head * a.head_dim, width,
             a.head_dim);
  }
  if (parts == nullptr) {
    store_row(a.o + (row * a.heads + head) * a.head_dim, sums.sums, 1.0f / sums.total, a.head_dim);
    return;
  }
  float* to = parts + ((row * a.heads + head) * gridDim.z + blockIdx.z) * part_floats(a.head_dim);
  if (lane == 0) to[0] = sums.top, to[1] = sums.total;
  store_row(to + 2, sums.sums, 1.0f, a.head_dim);
}

/// A warp per row and head: its parts shrunk to the largest maximum, added in their order. Parts without keys weigh nothing.
template <class T, int kPer>
__global__ void __launch_bounds__(kWarpThreads) unite_kernel(AttentionCachedArguments<T> a, const float* parts, int count) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32, head = blockIdx.y;
  if (row >= a.n) return;
  const std::int64_t stride = part_floats(a.head_dim);
  const float* own = parts + (row * a.heads + head) * count * stride;
  float top = -INFINITY, total = 0;
  for (int part = 0; part < count; part++) top = fmaxf(top, own[part * stride]);
  float sums[kPer] = {};
  for (int part = 0; part < count; part++) {
    const float* at = own + part * stride;
    if (at[0] == -INFINITY) continue;
    const float shrink = expf(at[0] - top);
    total += shrink * at[1];
    add_rows(sums, &shrink, 1, at + 2, 0, a.head_dim);
  }
  store_row(a.o + (row * a.heads + head) * a.head_dim, sums, 1.0f / total, a.head_dim);
}

template <class T>
void run_append(const KvAppendArguments<T>& a, const Team& team) {
  each_element<1>(*team.queue, a.n * a.kv_heads * a.head_dim, true, Append<T>{a, faults_of(a.places, *team.queue)});
}

template <class T>
void run_cached(const AttentionCachedArguments<T>& a, const Team& team) {
  const std::int64_t count = parts_of(a);
  const dim3 rows(grid_of(parts(a.n, kWarps)).x, static_cast<unsigned>(a.heads));
  const dim3 grid(rows.x, rows.y, static_cast<unsigned>(count));
  auto* sums = count == 1 ? nullptr : reinterpret_cast<float*>(team.workspace);
  const std::size_t shared = static_cast<std::size_t>(kWarps * (a.head_dim + 32)) * sizeof(float);
  with_columns(a.head_dim, [&](auto columns) {
    launch(*team.queue, grid, dim3(kWarpThreads), shared, cached_kernel<T, decltype(columns)::value>, a, faults_of(a.places, *team.queue), sums);
    if (count == 1) return;
    launch(*team.queue, rows, dim3(kWarpThreads), 0, unite_kernel<T, decltype(columns)::value>, a, sums, static_cast<int>(count));
  });
}

template <class T>
std::size_t cached_workspace(const AttentionCachedArguments<T>& a, int) {
  const std::int64_t count = parts_of(a);
  return count == 1 ? 0 : static_cast<std::size_t>(a.n * a.heads * count * part_floats(a.head_dim)) * sizeof(float);
}

}  // namespace

template <class T>
Kernel<KvAppendArguments<T>> kv_append() {
  return {run_append<T>, nullptr};
}
template <class T>
Kernel<AttentionCachedArguments<T>> attention_cached() {
  return {run_cached<T>, cached_workspace<T>};
}

RL_FOR_TYPES(kv_append, KvAppendArguments)
RL_FOR_TYPES(attention_cached, AttentionCachedArguments)

}  // namespace raylite::cuda

// kv_append, attention_cached. A task is one head of one row; keys are read once, in blocks, with an online softmax.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kKeys = 64;
constexpr std::int64_t kHeadDimMax = 1024;  // as the contract checks

bool in_cache(const std::int32_t* slots, const std::int32_t* positions, std::int64_t i, std::int64_t b, std::int64_t p,
              const Team& team) {
  if (slots[i] < 0 || slots[i] >= b) {
    team.fail_value("slots", i, slots[i], 0, b);
    return false;
  }
  if (positions[i] < 0 || positions[i] >= p) {
    team.fail_value("positions", i, positions[i], 0, p);
    return false;
  }
  return true;
}

float dot(const float* a, const float* b, std::int64_t count) {
  Floats sum{};
  each_vector(count, [&](std::int64_t j, int n) { sum += load_n(a + j, n) * load_n(b + j, n); });
  return sum_lanes(sum);
}

void attend(const AttentionCachedArguments& a, std::int64_t i, std::int64_t head) {
  const std::int64_t width = a.kv_heads * a.head_dim;
  const std::int64_t kv_head = head / (a.heads / a.kv_heads);
  const std::int64_t cache = a.slots[i] * a.p * width + kv_head * a.head_dim;
  const float* q = a.q + i * a.q_layout.width + a.q_layout.offset + head * a.q_layout.head_stride;
  const std::int64_t end = a.positions[i] + 1;
  const std::int64_t begin = a.window > 0 ? max_of(0, end - a.window) : 0;
  alignas(64) float sums[kHeadDimMax] = {};
  alignas(64) float scores[kKeys];
  float top = -1e30f;
  float total = 0;
  for (std::int64_t key = begin; key < end; key += kKeys) {
    const std::int64_t count = min_of(kKeys, end - key);
    const float* k = a.cache_k + cache + key * width;
    const float* v = a.cache_v + cache + key * width;
    float new_top = top;
    for (std::int64_t j = 0; j < count; j++) {
      scores[j] = dot(q, k + j * width, a.head_dim) * a.scale;
      new_top = scores[j] > new_top ? scores[j] : new_top;
    }
    for (std::int64_t j = count; j < kKeys; j++) scores[j] = -3e38f;
    const float shrink = exp_of(broadcast(top - new_top))[0];
    top = new_top;
    Floats block_total{};
    for (std::int64_t j = 0; j < kKeys; j += kLanes) {
      const Floats e = exp_of(load(scores + j) - top);
      store(scores + j, e);
      block_total += e;
    }
    total = total * shrink + sum_lanes(block_total);
    each_vector(a.head_dim, [&](std::int64_t c, int n) {
      Floats sum = load(sums + c) * shrink;
      for (std::int64_t j = 0; j < count; j++) sum = fma(broadcast(scores[j]), load_n(v + j * width + c, n), sum);
      store(sums + c, sum);
    });
  }
  float* o = a.o + i * a.heads * a.head_dim + head * a.head_dim;
  const Floats factor = broadcast(1.0f / total);
  each_vector(a.head_dim, [&](std::int64_t c, int n) { store_n(o + c, load(sums + c) * factor, n); });
}

}  // namespace

void kv_append(const KvAppendArguments& a, const Team& team) {
  const std::int64_t width = a.kv_heads * a.head_dim;
  const Range rows = share_rows(team, a.n, width);
  for (std::int64_t i = rows.begin; i < rows.end; i++) {
    if (!in_cache(a.slots, a.positions, i, a.b, a.p, team)) continue;
    const std::int64_t to = (a.slots[i] * a.p + a.positions[i]) * width;
    const std::size_t bytes = static_cast<std::size_t>(a.head_dim) * 4;
    for (std::int64_t head = 0; head < a.kv_heads; head++) {
      __builtin_memcpy(a.cache_k + to + head * a.head_dim,
                       a.k + i * a.k_layout.width + a.k_layout.offset + head * a.k_layout.head_stride, bytes);
      __builtin_memcpy(a.cache_v + to + head * a.head_dim,
                       a.v + i * a.v_layout.width + a.v_layout.offset + head * a.v_layout.head_stride, bytes);
    }
  }
}

void attention_cached(const AttentionCachedArguments& a, const Team& team) {
  for (std::int64_t task = team.claim(); task < a.n * a.heads; task = team.claim()) {
    const std::int64_t row = task / a.heads;
    if (in_cache(a.slots, a.positions, row, a.b, a.p, team)) attend(a, row, task % a.heads);
  }
}

}  // namespace raylite::RL_ISA

// choose_token: a block takes a slot, with a copy of its logits in the workspace. Weights are whole numbers, whose sums have no order: the tokens are
// those of the CPU for the same logits, whatever the threads. Thresholds are found by histograms of digits, the first of them of the distance from
// the largest logit, over which tokens spread, so that threads rarely meet in a bin.
#include "cuda/kernels.h"
#include "cuda/philox.cuh"
#include "cuda/reduce.cuh"

#if defined(__CUDACC__)
#define RL_CALLED __noinline__  // from many places: inlined, registers would not do
#else
#define RL_CALLED
#endif

namespace raylite::cuda {

namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32, kBins = 2048;
constexpr float kBinsPerUnit = 64;

using Sum = unsigned long long;

struct ChoiceFaults {
  Fault rows, lengths, lasts, counts, history, forbidden;
};

/// 2^bits e^(logit - top), rounded to a whole number: the additions and multiplications of the CPU's, one by one.
__device__ RL_CALLED Sum choice_weight(float logit, float top, int bits) {
  const double t = __dmul_rn(__dsub_rn(static_cast<double>(logit), static_cast<double>(top)), kLog2E);
  if (!(t >= -(bits + 1.0))) return 0;
  const double n = floor(__dadd_rn(t, 0.5));
  const double f = __dsub_rn(t, n);
  double power = power_term(kPowerDegree);
  RL_UNROLL
  for (int i = kPowerDegree - 1; i >= 0; i--) power = __dadd_rn(__dmul_rn(power, f), power_term(i));
  const double scale = __longlong_as_double(static_cast<long long>(1023 + bits + static_cast<int>(n)) << 52);
  return static_cast<Sum>(__dadd_rn(__dmul_rn(power, scale), 0.5));
}

/// In the order of the numbers.
__device__ inline std::uint32_t key_of(float x) {
  const std::uint32_t word = bits_of(x);
  return (word >> 31) != 0 ? ~word : word | 0x80000000u;
}
__device__ inline float number_of(std::uint32_t key) { return float_of((key >> 31) != 0 ? key & 0x7fffffffu : ~key); }

/// Which bin of the first histogram a logit is in: the largest in the last one.
__device__ inline std::uint32_t bin_of(float x, float top) {
  const float steps = (top - x) * kBinsPerUnit;  // falls as x grows, whatever is rounded
  return steps < kBins ? kBins - 1 - static_cast<std::uint32_t>(steps) : 0;
}

/// From the last bin down: the first with which what is above it reaches `needed`, and what is above that.
struct Found {
  std::uint32_t bin;
  Sum above;
};
__device__ inline Found walk(const Sum* bins, int size, Sum above, double needed) {
  __shared__ Found found;
  __syncthreads();  // the bins are full, and nobody reads what was found before
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x), own = size / 32, first = size - 1 - lane * own;  // this lane's bins: first, first - 1, …
    Sum mine = 0;
    for (int i = 0; i < own; i++) mine += bins[first - i];
    Sum before = mine;  // then of all lanes up to this one
    for (int step = 1; step < 32; step *= 2) {
      const Sum other = __shfl_sync(kFull, before, lane - step < 0 ? lane : lane - step);
      if (lane >= step) before += other;
    }
    before += above - mine;
    const bool starts = lane == 0 || static_cast<double>(before) < needed;
    const bool ends = lane == 31 || static_cast<double>(before + mine) >= needed;
    if (starts && ends) {
      int i = 0;
      while (i < own - 1 && static_cast<double>(before + bins[first - i]) < needed) before += bins[first - i++];
      found = {static_cast<std::uint32_t>(first - i), before};
    }
  }
  __syncthreads();
  return found;
}

/// The largest of the logits such that those from it on weigh `share` of all that are at least `least`, and so much more. `bits` of the weights;
/// 0: each weighs one.
__device__ RL_CALLED float reach(const float* x, std::int64_t count, float top, float least, double share, double more, Sum* bins, int bits) {
  const auto fill = [&](int shift, int size, auto is_meant) {
    __syncthreads();
    for (int b = static_cast<int>(threadIdx.x); b < size; b += kThreads) bins[b] = 0;
    __syncthreads();
    for (std::int64_t j = threadIdx.x; j < count; j += kThreads) {
      if (!(x[j] >= least) || !is_meant(x[j])) continue;
      const Sum weight = bits == 0 ? 1 : choice_weight(x[j], top, bits);
      const std::uint32_t bin = shift < 0 ? bin_of(x[j], top) : key_of(x[j]) >> shift & static_cast<std::uint32_t>(size - 1);
      if (weight != 0) atomicAdd(&bins[bin], weight);
    }
  };
  fill(-1, kBins, [](float) { return true; });
  __syncthreads();
  Sum all = 0;
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads) all += bins[b];
  const double needed = __dadd_rn(__dmul_rn(static_cast<double>(sum_block(all)), share), more);
  const Found first = walk(bins, kBins, 0, needed);
  Sum above = first.above;
  std::uint32_t prefix = 0, mask = 0;
  const int shifts[3] = {21, 10, 0};
  for (int shift : shifts) {
    const int size = shift == 0 ? 1024 : kBins;
    fill(shift, size, [&](float logit) { return bin_of(logit, top) == first.bin && (key_of(logit) & mask) == prefix; });
    const Found found = walk(bins, size, above, needed);
    above = found.above;
    prefix |= found.bin << shift;
    mask |= static_cast<std::uint32_t>(size - 1) << shift;
  }
  return number_of(prefix);
}

/// A number in [0, 1): 53 bits of the two words that the seed and the counter name.
__device__ inline double uniform_of(const ChoiceSettings& set) {
  const Words4 words = philox(set.counter[0], set.counter[1], set.counter[2], 0, set.seed_low, set.seed_high);
  return __dmul_rn(__dadd_rn(__dmul_rn(static_cast<double>(words.at[0] >> 5), 67108864.0), static_cast<double>(words.at[1] >> 6)),
                   1.0 / 9007199254740992.0);
}

/// The largest logit, and the first that is it.
struct Largest {
  float top;
  std::int64_t at;
};
__device__ inline Largest largest_of(const float* x, std::int64_t count) {
  float most = -INFINITY;
  for (std::int64_t j = threadIdx.x; j < count; j += kThreads) most = fmaxf(most, x[j]);
  const float top = reduce_block<Larger>(most, -INFINITY);
  std::int64_t at = count - 1;
  for (std::int64_t j = threadIdx.x; j < count; j += kThreads) {
    if (x[j] == top && j < at) at = j;
  }
  return {top, reduce_block<Smaller>(at, count - 1)};
}

/// Draws from what the filters leave of the logits. All threads get the token.
__device__ inline std::int64_t draw(const ChoiceSettings& set, const float* x, std::int64_t count, const Largest& largest) {
  __shared__ Sum bins[kBins], sums[kWarps];
  __shared__ long long chosen;
  const float top = largest.top;
  const int bits = choice_bits(count);
  float least = -INFINITY;
  if (set.top_k > 0 && set.top_k < count) least = reach(x, count, top, least, 0, set.top_k, bins, 0);
  if (set.top_p < 1) least = reach(x, count, top, least, set.top_p, 0, bins, bits);
  const double low = __dadd_rn(static_cast<double>(top), set.min_log);
  const auto weight_of = [&](std::int64_t j) {
    return j < count && x[j] >= least && static_cast<double>(x[j]) >= low ? choice_weight(x[j], top, bits) : Sum{0};
  };
  // A warp adds up a run of logits; the one in which the number falls looks for its place there.
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t run = parts(parts(count, kWarps), 32) * 32, begin = warp * run;
  Sum mine = 0;
  for (std::int64_t j = begin; j < begin + run && j < count; j += 32) mine += weight_of(j + lane);
  mine = reduce_warp<Plus>(mine);
  if (lane == 0) sums[warp] = mine;
  if (threadIdx.x == 0) chosen = largest.at;
  __syncthreads();
  Sum total = 0, before = 0;
  for (int w = 0; w < kWarps; w++) {
    if (w == warp) before = total;
    total += sums[w];
  }
  Sum left = static_cast<Sum>(__dmul_rn(uniform_of(set), static_cast<double>(total)));
  left = left < total ? left : total - 1;  // the product may round up
  if (left >= before && left < before + mine) {
    for (std::int64_t j = begin; j < begin + run && j < count; j += 32) {
      const Sum weight = weight_of(j + lane);
      Sum sum = weight;  // of the lanes up to this one
      for (int step = 1; step < 32; step *= 2) {
        const Sum other = __shfl_sync(kFull, sum, lane - step < 0 ? lane : lane - step);
        if (lane >= step) sum += other;
      }
      if (left >= before + sum - weight && left < before + sum) chosen = j + lane;
      before += __shfl_sync(kFull, sum, 31);
    }
  }
  __syncthreads();
  return chosen;
}

__device__ inline bool in_range(std::int64_t value, std::int64_t high, const Fault& fault, std::int64_t at) {
  if (value >= 0 && value < high) return true;
  report(fault, at);
  return false;
}

__global__ void __launch_bounds__(kThreads) choose_kernel(ChooseTokenArguments a, ChoiceFaults faults, float* workspace) {
  const std::int64_t slot = blockIdx.x;
  const ChoiceSettings& set = a.settings[slot];
  if (threadIdx.x == 0) {
    a.id[slot] = 0;
    a.logit[slot] = 0;
  }
  // Equal for all threads of the block.
  const std::int64_t at = slot * kChoiceWords;
  if (!in_range(set.row + 1, a.n + 1, faults.rows, at + 8) || set.row < 0) return;
  if (!in_range(set.length, a.p + 1, faults.lengths, at + 9) || !in_range(set.last, a.v, faults.lasts, at + 10) ||
      !in_range(set.forbidden, a.f + 1, faults.counts, at + 11)) {
    return;
  }
  const float* x = a.x + set.row * a.v;
  float* held = workspace + slot * a.v;
  std::int32_t* history = a.history + slot * a.p;
  for (std::int64_t j = threadIdx.x; j < a.v; j += kThreads) held[j] = x[j];
  if (threadIdx.x == 0 && set.length > 0) history[set.length - 1] = set.last;
  __syncthreads();
  for (std::int64_t t = threadIdx.x; t < set.length; t += kThreads) {
    const std::int32_t id = history[t];  // a token that came twice is written twice, alike
    if (in_range(id, a.v, faults.history, slot * a.p + t)) held[id] = static_cast<float>(x[id] < 0 ? x[id] * set.penalty : x[id] / set.penalty);
  }
  __syncthreads();
  for (std::int64_t i = threadIdx.x; i < set.forbidden; i += kThreads) {
    const std::int32_t id = a.forbidden[slot * a.f + i];
    if (in_range(id, a.v, faults.forbidden, slot * a.f + i)) held[id] = -INFINITY;
  }
  __syncthreads();
  if (set.draws != 0) {
    for (std::int64_t j = threadIdx.x; j < a.v; j += kThreads) held[j] = static_cast<float>(held[j] / set.temperature);
    __syncthreads();
  }
  const Largest largest = largest_of(held, a.v);
  const std::int64_t id = set.draws == 0 || largest.top == -INFINITY ? largest.at : draw(set, held, a.v, largest);
  if (threadIdx.x != 0) return;
  a.id[slot] = static_cast<std::int32_t>(id);
  a.logit[slot] = x[id];
}

void run_choice(const ChooseTokenArguments& a, const Team& team) {
  Queue& queue = *team.queue;
  const auto* settings = reinterpret_cast<const std::int32_t*>(a.settings);
  const auto expect = [&](const char* what, const std::int32_t* values, std::int64_t low, std::int64_t high) {
    return queue.faults->expect(queue, what, values, low, high);
  };
  ChoiceFaults faults{};
  faults.rows = expect("row", settings, -1, a.n);
  faults.lengths = expect("length", settings, 0, a.p + 1);
  faults.lasts = expect("last", settings, 0, a.v);
  faults.counts = expect("forbidden count", settings, 0, a.f + 1);
  faults.history = expect("history", a.history, 0, a.v);
  faults.forbidden = expect("forbidden", a.forbidden, 0, a.v);
  launch(queue, grid_of(a.s), dim3(kThreads), 0, choose_kernel, a, faults, reinterpret_cast<float*>(team.workspace));
}

}  // namespace

Kernel<ChooseTokenArguments> choose_token() {
  return {run_choice, [](const ChooseTokenArguments& a, int) { return static_cast<std::size_t>(a.s * a.v) * sizeof(float); }};
}

}  // namespace raylite::cuda

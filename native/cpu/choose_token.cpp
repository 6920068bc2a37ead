// choose_token: a slot is one thread's. Compiled without contraction of products and sums (CMakeLists.txt): weights are the same bits on every
// instruction set, and so is the token.
#include "cpu/kernels.h"
#include "cpu/philox.h"

namespace raylite::RL_ISA {

namespace {

constexpr std::int64_t kDigits[3][2] = {{21, 11}, {10, 11}, {0, 10}};  // of a key: from bit, how many
constexpr std::int64_t kBins = 1 << 11;

/// 2^bits e^(logit - top), rounded to a whole number.
RL_INLINE std::uint64_t choice_weight(float logit, float top, int bits) {
  const double t = (static_cast<double>(logit) - static_cast<double>(top)) * kLog2E;
  if (!(t >= -(bits + 1.0))) return 0;
  const double n = __builtin_floor(t + 0.5);
  const double f = t - n;
  double power = power_term(kPowerDegree);
  for (int i = kPowerDegree - 1; i >= 0; i--) power = power * f + power_term(i);
  const std::uint64_t exponent = static_cast<std::uint64_t>(1023 + bits + static_cast<int>(n)) << 52;  // n >= -bits - 1
  double scale;
  __builtin_memcpy(&scale, &exponent, sizeof(scale));
  return static_cast<std::uint64_t>(power * scale + 0.5);
}

/// In the order of the numbers.
RL_INLINE std::uint32_t key_of(float x) {
  std::uint32_t word;
  __builtin_memcpy(&word, &x, sizeof(word));
  return (word >> 31) != 0 ? ~word : word | 0x80000000u;
}
RL_INLINE float number_of(std::uint32_t key) {
  const std::uint32_t word = (key >> 31) != 0 ? key & 0x7fffffffu : ~key;
  float x;
  __builtin_memcpy(&x, &word, sizeof(x));
  return x;
}

/// The largest of the numbers such that those from it on weigh `share` of all that are at least `least`, and so much more.
template <class Weigh>
RL_INLINE float reach(const float* x, std::int64_t count, float least, double share, double more, Weigh weigh) {
  std::uint32_t prefix = 0, mask = 0;
  std::uint64_t above = 0;
  double needed = 0;
  std::uint64_t bins[kBins];
  for (int digit = 0; digit < 3; digit++) {
    const auto [shift, bits] = kDigits[digit];
    const std::int64_t size = std::int64_t{1} << bits;
    for (std::int64_t b = 0; b < size; b++) bins[b] = 0;
    for (std::int64_t j = 0; j < count; j++) {
      const std::uint32_t key = key_of(x[j]);
      if (x[j] >= least && (key & mask) == prefix) bins[key >> shift & static_cast<std::uint32_t>(size - 1)] += weigh(x[j]);
    }
    if (digit == 0) {
      std::uint64_t all = 0;
      for (std::int64_t b = 0; b < size; b++) all += bins[b];
      needed = static_cast<double>(all) * share + more;
    }
    std::int64_t bin = size - 1;
    while (bin > 0 && static_cast<double>(above + bins[bin]) < needed) above += bins[bin--];
    prefix |= static_cast<std::uint32_t>(bin) << shift;
    mask |= static_cast<std::uint32_t>(size - 1) << shift;
  }
  return number_of(prefix);
}

/// A number in [0, 1): 53 bits of the two words that the seed and the counter name.
RL_INLINE double uniform_of(const ChoiceSettings& set) {
  Words c[4];
  for (int i = 0; i < 3; i++) c[i] = Words{} + set.counter[i];
  c[3] = Words{};
  philox(c, set.seed_low, set.seed_high);
  return (static_cast<double>(c[0][0] >> 5) * 67108864.0 + static_cast<double>(c[1][0] >> 6)) * (1.0 / 9007199254740992.0);
}

/// Whether something is asked for the slot that can be done. What lies beside a row of -1 may be anything.
bool is_asked(const ChooseTokenArguments& a, std::int64_t slot, const Team& team) {
  const ChoiceSettings& set = a.settings[slot];
  const auto check = [&](const char* what, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value >= low && value < high) return true;
    team.fail_value(what, slot, value, low, high);
    return false;
  };
  return check("row", set.row, -1, a.n) && set.row >= 0 && check("length", set.length, 0, a.p + 1) && check("last", set.last, 0, a.v) &&
         check("forbidden count", set.forbidden, 0, a.f + 1);
}

/// The logits of the slot's row after what must not or should not come is held back.
bool hold_back(const ChooseTokenArguments& a, std::int64_t slot, float* held, const Team& team) {
  const ChoiceSettings& set = a.settings[slot];
  const float* x = a.x + set.row * a.v;
  for (std::int64_t j = 0; j < a.v; j++) held[j] = x[j];
  std::int32_t* history = a.history + slot * a.p;
  if (set.length > 0) history[set.length - 1] = set.last;
  for (std::int64_t t = 0; t < set.length; t++) {
    const std::int32_t id = history[t];
    if (id < 0 || id >= a.v) {
      team.fail_value("history", slot * a.p + t, id, 0, a.v);
      return false;
    }
    held[id] = static_cast<float>(x[id] < 0 ? x[id] * set.penalty : x[id] / set.penalty);
  }
  for (std::int64_t i = 0; i < set.forbidden; i++) {
    const std::int32_t id = a.forbidden[slot * a.f + i];
    if (id < 0 || id >= a.v) {
      team.fail_value("forbidden", slot * a.f + i, id, 0, a.v);
      return false;
    }
    held[id] = -__builtin_inff();
  }
  return true;
}

std::int64_t first_of_largest(const float* x, std::int64_t count) {
  std::int64_t best = 0;
  for (std::int64_t j = 1; j < count; j++) best = x[j] > x[best] ? j : best;
  return best;
}

/// Draws from what the filters leave of the logits.
std::int64_t draw(const ChoiceSettings& set, float* x, std::int64_t count) {
  for (std::int64_t j = 0; j < count; j++) x[j] = static_cast<float>(x[j] / set.temperature);
  const std::int64_t best = first_of_largest(x, count);
  const float top = x[best];
  if (top == -__builtin_inff()) return best;
  const int bits = choice_bits(count);
  float least = -__builtin_inff();
  if (set.top_k > 0 && set.top_k < count) least = reach(x, count, least, 0, set.top_k, [](float) { return std::uint64_t{1}; });
  if (set.top_p < 1) least = reach(x, count, least, set.top_p, 0, [=](float logit) { return choice_weight(logit, top, bits); });
  const double low = top + set.min_log;
  const auto weight_of = [&](std::int64_t j) { return x[j] >= least && x[j] >= low ? choice_weight(x[j], top, bits) : 0; };
  std::uint64_t total = 0;
  for (std::int64_t j = 0; j < count; j++) total += weight_of(j);
  std::uint64_t left = static_cast<std::uint64_t>(uniform_of(set) * static_cast<double>(total));
  left = left < total ? left : total - 1;  // the product may round up
  for (std::int64_t j = 0; j < count; j++) {
    const std::uint64_t weight = weight_of(j);
    if (left < weight) return j;
    left -= weight;
  }
  return best;
}

}  // namespace

void choose_token(const ChooseTokenArguments& a, const Team& team) {
  float* held = reinterpret_cast<float*>(team.workspace) + team.index * a.v;
  for (std::int64_t slot = team.claim(); slot < a.s; slot = team.claim()) {
    const ChoiceSettings& set = a.settings[slot];
    a.id[slot] = 0;
    a.logit[slot] = 0;
    if (!is_asked(a, slot, team) || !hold_back(a, slot, held, team)) continue;
    const std::int64_t id = set.draws != 0 ? draw(set, held, a.v) : first_of_largest(held, a.v);
    a.id[slot] = static_cast<std::int32_t>(id);
    a.logit[slot] = a.x[set.row * a.v + id];
  }
}

std::size_t choose_token_workspace(const ChooseTokenArguments& a, int threads) {
  return static_cast<std::size_t>(threads * a.v) * sizeof(float);
}

}  // namespace raylite::RL_ISA

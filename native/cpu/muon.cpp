// muon: momentum in one pass over m and g, then products of the whole team. With S = 3.4445 I - 4.775 A + 2.0315 A^2 an
// iteration is three products: A = X X^T, A^2, S X. The side of A is the shorter one of the matrix.
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "cpu/step.h"

namespace raylite::RL_ISA {

namespace {

constexpr float kLinear = 3.4445f;
constexpr float kCubic = -4.7750f;
constexpr float kQuintic = 2.0315f;
constexpr std::int64_t kBlock = 4096;  // elements summed in float lanes before they join the double

RL_INLINE std::int64_t lines(std::int64_t floats) { return (floats + 15) / 16 * 16; }

RL_INLINE Gemm<float, float> product(std::int64_t m, std::int64_t n, std::int64_t k) {
  Gemm<float, float> g{};
  g.m = m, g.n = n, g.k = k;
  g.ldc = n;
  return g;
}

template <class F>
std::size_t largest_workspace(const MuonArguments<F>& a, int threads) {
  const std::int64_t least = min_of(a.rows, a.columns);
  const std::int64_t most = max_of(a.rows, a.columns);
  const std::size_t gram = gemm_workspace_of<float>(least, least, most, threads);
  const std::size_t apply = gemm_workspace_of<float>(a.rows, a.columns, least, threads);
  return gram > apply ? gram : apply;  // A^2 is no larger than A
}

/// This thread's part of the momentum step: m and x = u; returns the sum of squares of its part of u.
template <class F>
double accelerate(const MuonArguments<F>& a, const Range& mine, float* x) {
  const Floats factor = broadcast(a.factor[0]);
  const Floats momentum = broadcast(static_cast<float>(a.momentum));
  const Floats rest = broadcast(static_cast<float>(1.0 - a.momentum));
  double total = 0;
  for (std::int64_t at = mine.begin; at < mine.end; at += kBlock) {
    Floats squares{};
    each_step(a, at, min_of(at + kBlock, mine.end), [&](std::int64_t i, int n, const Chances& chances) {
      const Floats g = load_n(a.g + i, n) * factor;
      Floats m = load_n(a.m + i, n);
      m += rest * (g - m);
      const Floats u = a.nesterov ? g + momentum * (m - g) : m;
      store_stepped<Chance::kState>(a.m + i, m, n, chances);
      store_n(x + i, u, n);
      squares += u * u;
    });
    for (int lane = 0; lane < kLanes; lane++) total += static_cast<double>(squares[lane]);
  }
  return total;
}

}  // namespace

template <class F>
static void muon_of(const MuonArguments<F>& a, const Team& team) {
  const std::int64_t count = a.rows * a.columns;
  if (is_skipped(a, count, team)) return;
  const std::int64_t least = min_of(a.rows, a.columns);
  const bool is_tall = a.rows > a.columns;
  float* x = a.workspace;
  float* next = x + lines(count);
  float* gram = next + lines(count);
  float* polynomial = gram + lines(least * least);
  double* partials = reinterpret_cast<double*>(team.workspace);
  std::uint8_t* gemm_space = team.workspace + static_cast<std::size_t>(team.count) * 64;

  const Range mine = share_elements(team, count);
  partials[team.index * 8] = accelerate(a, mine, x);  // a cache line each
  team.barrier();
  double squares = 0;
  for (int thread = 0; thread < team.count; thread++) squares += partials[thread * 8];
  const Floats size = broadcast(static_cast<float>(1.0 / (__builtin_sqrt(squares) + 1e-7)));
  each_vector(mine.end - mine.begin, [&](std::int64_t j, int n) {
    float* at = x + mine.begin + j;
    store_n(at, load_n(at, n) * size, n);
  });
  team.barrier();

  for (std::int64_t iteration = 0; iteration < a.iterations; iteration++) {
    Gemm<float, float> g = product(least, least, is_tall ? a.rows : a.columns);
    g.a = x, g.a_row = is_tall ? 1 : a.columns, g.a_col = is_tall ? a.columns : 1;
    g.b = x, g.b_row = g.a_col, g.b_col = g.a_row;
    g.c = gram;
    gemm(g, team, gemm_space);
    g = product(least, least, least);
    g.a = gram, g.a_row = least, g.a_col = 1;
    g.b = gram, g.b_row = least, g.b_col = 1;
    g.c = polynomial;
    gemm(g, team, gemm_space);
    const Range rows = share(team, least, 1);
    for (std::int64_t row = rows.begin; row < rows.end; row++) {
      float* to = polynomial + row * least;
      each_vector(least, [&](std::int64_t j, int n) {
        store_n(to + j, kCubic * load_n(gram + row * least + j, n) + kQuintic * load_n(to + j, n), n);
      });
      to[row] += kLinear;
    }
    team.barrier();
    g = product(a.rows, a.columns, least);
    g.a = is_tall ? x : polynomial, g.a_row = least, g.a_col = 1;
    g.b = is_tall ? polynomial : x, g.b_row = a.columns, g.b_col = 1;
    g.c = next;
    gemm(g, team, gemm_space);
    float* done = x;
    x = next;
    next = done;
  }

  const double lr = static_cast<double>(a.lr[0]);
  const double ratio = static_cast<double>(a.rows) / static_cast<double>(a.columns);
  const Floats shrink = broadcast(static_cast<float>(1.0 - lr * a.weight_decay));
  const Floats rate = broadcast(static_cast<float>(lr * __builtin_sqrt(is_tall ? ratio : 1.0)));
  each_step(a, mine.begin, mine.end, [&](std::int64_t i, int n, const Chances& chances) {
    store_parameter(a, i, load_n(a.p + i, n) * shrink - rate * load_n(x + i, n), n, chances);
  });
}

template <class F>
static std::size_t muon_workspace_of(const MuonArguments<F>& a, int threads) {
  return static_cast<std::size_t>(threads) * 64 + largest_workspace(a, threads);
}

#define RL_MUON(form, ...)                                   \
  RL_STEP_OF(muon, MuonArguments, __VA_ARGS__)               \
  std::size_t muon_workspace(const MuonArguments<__VA_ARGS__>& a, int threads) { return muon_workspace_of(a, threads); }
RAYLITE_STEP_FORMS(RL_MUON)

}  // namespace raylite::RL_ISA

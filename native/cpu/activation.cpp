// activation, gated_activation and their gradients.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/write_around.h"

namespace raylite::RL_ISA {

namespace {

template <Activation kKind, int kParts>
RL_INLINE Block<kParts> activated(const Block<kParts>& x) {
  return map_block(x, [](Floats part) __attribute__((always_inline)) { return activate<kKind>(part); });
}
template <Activation kKind, int kParts>
RL_INLINE Block<kParts> slope_of(const Block<kParts>& x) {
  return map_block(x, [](Floats part) __attribute__((always_inline)) { return activate_slope<kKind>(part); });
}

template <class T>
struct Forward {
  const ActivationArguments<T>& a;
  const Team& team;
  template <Activation kKind>
  void operator()() const {
    write_elements(team, a.y, a.n, a.y == a.x, [&](std::int64_t i, int n) __attribute__((always_inline)) {
      return activated<kKind>(load_block<kPartsOf<T>>(a.x + i, n));
    });
  }
};

template <class T>
struct Backward {
  const ActivationBackwardArguments<T>& a;
  const Team& team;
  template <Activation kKind>
  void operator()() const {
    constexpr int kParts = kPartsOf<T>;
    write_elements(team, a.dx, a.n, a.dx == a.dy || a.dx == a.x, [&](std::int64_t i, int n) __attribute__((always_inline)) {
      return load_block<kParts>(a.dy + i, n) * slope_of<kKind>(load_block<kParts>(a.x + i, n));
    });
  }
};

template <class T>
struct GatedForward {
  const GatedActivationArguments<T>& a;
  const Team& team;
  template <Activation kKind>
  void operator()() const {
    constexpr int kParts = kPartsOf<T>;
    write_elements(team, a.y, a.n, a.y == a.gate || a.y == a.up, [&](std::int64_t i, int n) __attribute__((always_inline)) {
      return activated<kKind>(load_block<kParts>(a.gate + i, n)) * load_block<kParts>(a.up + i, n);
    });
  }
};

template <class T>
struct GatedBackward {
  const GatedActivationBackwardArguments<T>& a;
  const Team& team;
  template <Activation kKind>
  void operator()() const {
    constexpr int kParts = kPartsOf<T>;
    const Writer<T> dgate(a.dgate, 1, a.n, a.dgate == a.gate || a.dgate == a.dy);
    const Writer<T> dup(a.dup, 1, a.n, a.dup == a.up);
    const Range all = share_elements(team, a.n);
    each_block<T>(all.end - all.begin, [&](std::int64_t j, int n) __attribute__((always_inline)) {
      const std::int64_t i = all.begin + j;
      const Block<kParts> dy = load_block<kParts>(a.dy + i, n);
      const Block<kParts> gate = load_block<kParts>(a.gate + i, n);
      const Block<kParts> up = load_block<kParts>(a.up + i, n);
      Block<kParts> slope, value;  // of each part in turn: they have a power in common
      for (int k = 0; k < kParts; k++) {
        slope.part[k] = activate_slope<kKind>(gate.part[k]);
        value.part[k] = activate<kKind>(gate.part[k]);
      }
      dgate.put(a.dgate + i, dy * up * slope, n);
      dup.put(a.dup + i, dy * value, n);
    });
    dgate.end();
    dup.end();
  }
};

}  // namespace

template <class T>
static void activation_of(const ActivationArguments<T>& a, const Team& team) {
  with_kind(a.kind, Forward<T>{a, team});
}

template <class T>
static void activation_backward_of(const ActivationBackwardArguments<T>& a, const Team& team) {
  with_kind(a.kind, Backward<T>{a, team});
}

template <class T>
static void gated_activation_of(const GatedActivationArguments<T>& a, const Team& team) {
  with_kind(a.kind, GatedForward<T>{a, team});
}

template <class T>
static void gated_activation_backward_of(const GatedActivationBackwardArguments<T>& a, const Team& team) {
  with_kind(a.kind, GatedBackward<T>{a, team});
}

RL_DEFINE(activation, ActivationArguments)
RL_DEFINE(activation_backward, ActivationBackwardArguments)
RL_DEFINE(gated_activation, GatedActivationArguments)
RL_DEFINE(gated_activation_backward, GatedActivationBackwardArguments)

}  // namespace raylite::RL_ISA

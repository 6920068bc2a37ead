// activation, gated_activation and their gradients.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

template <class T>
struct Forward {
  const ActivationArguments<T>& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      store_n(a.y + i, activate<kKind>(load_n(a.x + i, n)), n);
    });
  }
};

template <class T>
struct Backward {
  const ActivationBackwardArguments<T>& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      store_n(a.dx + i, load_n(a.dy + i, n) * activate_slope<kKind>(load_n(a.x + i, n)), n);
    });
  }
};

template <class T>
struct GatedForward {
  const GatedActivationArguments<T>& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      store_n(a.y + i, activate<kKind>(load_n(a.gate + i, n)) * load_n(a.up + i, n), n);
    });
  }
};

template <class T>
struct GatedBackward {
  const GatedActivationBackwardArguments<T>& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      const Floats dy = load_n(a.dy + i, n);
      const Floats gate = load_n(a.gate + i, n);
      const Floats up = load_n(a.up + i, n);
      store_n(a.dgate + i, dy * up * activate_slope<kKind>(gate), n);
      store_n(a.dup + i, dy * activate<kKind>(gate), n);
    });
  }
};

}  // namespace

template <class T>
static void activation_of(const ActivationArguments<T>& a, const Team& team) {
  with_kind(a.kind, Forward<T>{a, share_elements(team, a.n)});
}

template <class T>
static void activation_backward_of(const ActivationBackwardArguments<T>& a, const Team& team) {
  with_kind(a.kind, Backward<T>{a, share_elements(team, a.n)});
}

template <class T>
static void gated_activation_of(const GatedActivationArguments<T>& a, const Team& team) {
  with_kind(a.kind, GatedForward<T>{a, share_elements(team, a.n)});
}

template <class T>
static void gated_activation_backward_of(const GatedActivationBackwardArguments<T>& a, const Team& team) {
  with_kind(a.kind, GatedBackward<T>{a, share_elements(team, a.n)});
}

RL_DEFINE(activation, ActivationArguments)
RL_DEFINE(activation_backward, ActivationBackwardArguments)
RL_DEFINE(gated_activation, GatedActivationArguments)
RL_DEFINE(gated_activation_backward, GatedActivationBackwardArguments)

}  // namespace raylite::RL_ISA

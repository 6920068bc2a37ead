// activation, gated_activation and their gradients.
#include "cpu/kernels.h"
#include "cpu/math.h"
#include "cpu/split.h"

namespace raylite::RL_ISA {

namespace {

struct Forward {
  const ActivationArguments& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      store_n(a.y + i, activate<kKind>(load_n(a.x + i, n)), n);
    });
  }
};

struct Backward {
  const ActivationBackwardArguments& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      store_n(a.dx + i, load_n(a.dy + i, n) * activate_slope<kKind>(load_n(a.x + i, n)), n);
    });
  }
};

struct GatedForward {
  const GatedActivationArguments& a;
  Range all;
  template <Activation kKind>
  void operator()() const {
    each_vector(all.end - all.begin, [&](std::int64_t j, int n) {
      const std::int64_t i = all.begin + j;
      store_n(a.y + i, activate<kKind>(load_n(a.gate + i, n)) * load_n(a.up + i, n), n);
    });
  }
};

struct GatedBackward {
  const GatedActivationBackwardArguments& a;
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

void activation(const ActivationArguments& a, const Team& team) {
  with_kind(a.kind, Forward{a, share_elements(team, a.n)});
}

void activation_backward(const ActivationBackwardArguments& a, const Team& team) {
  with_kind(a.kind, Backward{a, share_elements(team, a.n)});
}

void gated_activation(const GatedActivationArguments& a, const Team& team) {
  with_kind(a.kind, GatedForward{a, share_elements(team, a.n)});
}

void gated_activation_backward(const GatedActivationBackwardArguments& a, const Team& team) {
  with_kind(a.kind, GatedBackward{a, share_elements(team, a.n)});
}

}  // namespace raylite::RL_ISA

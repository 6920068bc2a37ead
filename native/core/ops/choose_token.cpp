// The contract of choose_token.
#include "core/ops/choose_token.h"

#include "core/bind.h"

namespace raylite {

Bound bind_choose_token(Binder& in, const Kernels& kernels) {
  ChooseTokenArguments a{};
  Dim n("N"), v("V"), s("S"), p("P"), f("F"), words("words", kChoiceWords);
  a.x = in.input("x", {&n, &v});
  in.ints("history", {&s, &p});
  a.settings = reinterpret_cast<const ChoiceSettings*>(in.ints("settings", {&s, &words}));
  a.forbidden = in.ints("forbidden", {&s, &f});
  a.history = in.int_output("history", {&s, &p});
  in.must_share("history", "history");
  a.id = in.int_output("id", {&s});
  a.logit = in.output("logit", {&s});
  in.finish();
  a.n = n.value, a.v = v.value, a.s = s.value, a.p = p.value, a.f = f.value;
  return bound(in, a, kernels.choose_token);
}

}  // namespace raylite

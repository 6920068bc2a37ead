// The next token of sequences, chosen from their logits: taken or drawn, after what must not or should not come is held back. N rows of
// logits, V vocabulary, S slots with up to P tokens each and up to F ids that must not come.
#pragma once
#include <cstdint>

namespace raylite {

/// What is asked for a slot: kChoiceWords of i32 in the plan's tensor.
struct ChoiceSettings {
  double temperature;      // logits are divided by it
  double top_p;            // 1: all
  double min_log;          // logits below the largest plus this are dropped; -infinity: none
  double penalty;          // of tokens that came before; 1: none
  std::int32_t row;        // of the logits; -1: nothing is asked
  std::int32_t length;     // tokens so far, with the last; 0: the history is not wanted, since nothing is penalised
  std::int32_t last;       // the last of them, which the history does not have yet
  std::int32_t forbidden;  // how many ids of the slot's list must not come
  std::int32_t draws;      // 0: the largest is taken
  std::int32_t top_k;      // 0: all
  std::uint32_t seed_low, seed_high;
  std::uint32_t counter[3];  // which of the seed's numbers is drawn with
  std::int32_t unused;
};
constexpr std::int64_t kChoiceWords = 20;
static_assert(sizeof(ChoiceSettings) == kChoiceWords * sizeof(std::int32_t));

/// For slots that ask: id[s] is the token chosen, logit[s] its logit as it is in x. 0 for the others. In order: logits of tokens in the history
/// shrink by the penalty, forbidden ones are out, all are divided by the temperature (each in f64, rounded to f32); top_k keeps the k largest and
/// their equals, top_p the fewest largest whose weights reach its share of all, and their equals, min_log those near the largest; one is drawn.
/// Weights are whole numbers: 2^b e^(x - largest), b = 52 less the bits of V, rounded, by one series of f64 additions and multiplications
/// (choice_weight of both devices, weightOf of src/infer). So their sums have no order, and all draw the same token from the same logits.
struct ChooseTokenArguments {
  const float* x;                  // [N,V]
  const ChoiceSettings* settings;  // [S]
  const std::int32_t* forbidden;   // [S,F]
  std::int32_t* history;           // [S,P]
  std::int32_t* id;                // [S]
  float* logit;                    // [S]
  std::int64_t n, v, s, p, f;
};

/// 2^f for |f| <= 1/2 is the sum of power_term(i) f^i: (ln 2)^i / i!.
constexpr int kPowerDegree = 13;
constexpr double power_term(int i) {
  const double terms[kPowerDegree + 1] = {1.0,
                                          0.6931471805599453,
                                          0.24022650695910072,
                                          0.05550410866482158,
                                          0.009618129107628477,
                                          0.0013333558146428443,
                                          0.0001540353039338161,
                                          1.5252733804059841e-05,
                                          1.321548679014431e-06,
                                          1.01780860092397e-07,
                                          7.054911620801123e-09,
                                          4.4455382718708116e-10,
                                          2.5678435993488206e-11,
                                          1.3691488853904128e-12};
  return terms[i];
}
constexpr double kLog2E = 1.4426950408889634;

/// b of the weights for v logits: the sum of all is below 2^52.
constexpr int choice_bits(std::int64_t v) {
  int bits = 0;
  while (v >> bits != 0) bits++;
  return 52 - bits;
}

}  // namespace raylite

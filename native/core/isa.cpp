// Run-time dispatch: asks the CPU once per call, chooses a table.
#include "core/isa.h"

#include "core/error.h"

namespace raylite {

namespace scalar {
const Kernels& kernels();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
double measure_pair_peak(double seconds);
}

namespace {
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
}  // namespace
#else
namespace {
bool has_avx2() { return false; }
bool has_avx512() { return false; }
}  // namespace
#endif

std::string best_isa() { return has_avx512() ? "avx512" : has_avx2() ? "avx2" : "scalar"; }

const Kernels& kernels_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512" && has_avx512()) return avx512::kernels();
  if (isa == "avx2" && has_avx2()) return avx2::kernels();
#endif
  if (isa == "scalar") return scalar::kernels();
  throw EngineError("ENGINE", "isa: this CPU cannot run \"" + isa + "\", its best is \"" + best_isa() + "\"");
}

double measure_pair_peak(const std::string& isa, double seconds) {
#if defined(__x86_64__)
  if (isa == "avx512" && has_avx512()) return avx512::measure_pair_peak(seconds);
#endif
  return kernels_of(isa).measure_peak(seconds);
}

}  // namespace raylite

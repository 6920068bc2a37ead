// Additions, copies, constants and row selection: no arithmetic worth a file of its own.
#pragma once
#include <cstdint>

namespace raylite {

/// y[n] = a[n] + b[n]; y may be a.
struct AddArguments {
  const float* a;
  const float* b;
  float* y;
  std::int64_t n;
};

/// y[n] = factor * x[n]; y may be x.
struct ScaleArguments {
  const float* x;
  float* y;
  std::int64_t n;
  float factor;
};

/// y[n] = a[n].
struct CopyArguments {
  const float* a;
  float* y;
  std::int64_t n;
};

/// y[n] = value.
struct FillArguments {
  float* y;
  std::int64_t n;
  float value;
};

/// y[M,D] = x[N,D][index[M]]. An index outside of 0..N-1 fails the run.
struct GatherRowsArguments {
  const float* x;
  const std::int32_t* index;
  float* y;
  std::int64_t n, m, d;
};

}  // namespace raylite

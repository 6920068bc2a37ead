// Additions, casts, copies, constants and row selection: no arithmetic worth a file of its own.
#pragma once
#include <cstdint>

#include "core/storage.h"

namespace raylite {

/// y[n] = a[n] + b[n]; y may be a.
template <class T>
struct AddArguments {
  const T* a;
  const T* b;
  T* y;
  std::int64_t n;
};

/// y[n] = factor * x[n]; y may be x.
template <class T>
struct ScaleArguments {
  const T* x;
  T* y;
  std::int64_t n;
  float factor;
};

/// y[n] = x[n], rounded to the type `to` that y holds: f32, bf16 or f16.
template <class T>
struct CastArguments {
  const T* x;
  void* y;
  std::int64_t n;
  DType to;
};

/// y[n] = a[n].
template <class T>
struct CopyArguments {
  const T* a;
  T* y;
  std::int64_t n;
};

/// y[n] = value.
template <class T>
struct FillArguments {
  T* y;
  std::int64_t n;
  float value;
};

/// y[M,D] = x[N,D][index[M]]. An index outside of 0..N-1 fails the run.
template <class T>
struct GatherRowsArguments {
  const T* x;
  const std::int32_t* index;
  T* y;
  std::int64_t n, m, d;
};

}  // namespace raylite

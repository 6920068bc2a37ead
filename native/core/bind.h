// Joins an op's checked arguments with the kernel that takes them. For the bind functions in core/ops/*.cpp.
#pragma once
#include <memory>
#include <type_traits>
#include <utility>

#include "core/binder.h"
#include "core/kernels.h"

namespace raylite {

template <class Arguments>
Bound bound(const Binder& binder, Arguments arguments, const Kernel<Arguments>& kernel) {
  struct Call {
    Arguments arguments;
    void (*run)(const Arguments&, const Team&);
  };
  if (kernel.run == nullptr) binder.fail_shape("this device does not have the op");
  Bound result;
  result.workspace_bytes = kernel.workspace == nullptr ? 0 : kernel.workspace(arguments, binder.threads());
  result.arguments = std::make_shared<Call>(Call{std::move(arguments), kernel.run});
  result.run = [](const void* call, const Team& team) {
    static_cast<const Call*>(call)->run(static_cast<const Call*>(call)->arguments, team);
  };
  return result;
}

/// Calls bind(kernels of T) for the storage type T.
template <class Bind>
Bound for_type(DType storage, const Kernels& kernels, Bind bind) {
  switch (storage) {
    case DType::kBF16:
      return bind(kernels.bf16);
    case DType::kF16:
      return bind(kernels.f16);
    default:
      return bind(kernels.f32);
  }
}

/// Defines the bind function of an op that exists for every storage type, from its template of the same name.
#define RAYLITE_BIND_STORED(name)                                                                          \
  Bound bind_##name(Binder& in, const Kernels& kernels) {                                                  \
    return for_type(in.storage(), kernels, [&](const auto& of_type) { return bind_##name(in, of_type); }); \
  }

}  // namespace raylite

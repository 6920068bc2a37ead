// Joins an op's checked arguments with the kernel that takes them. For the bind functions in core/ops/*.cpp.
#pragma once
#include <memory>
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
  Bound result;
  result.workspace_bytes = kernel.workspace == nullptr ? 0 : kernel.workspace(arguments, binder.threads());
  result.arguments = std::make_shared<Call>(Call{std::move(arguments), kernel.run});
  result.run = [](const void* call, const Team& team) {
    static_cast<const Call*>(call)->run(static_cast<const Call*>(call)->arguments, team);
  };
  return result;
}

}  // namespace raylite

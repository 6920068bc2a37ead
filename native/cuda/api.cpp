// The library's functions: nothing that is thrown inside leaves it.
#include "core/cuda_api.h"

#include <cstdio>
#include <cstring>
#include <exception>

#include "cuda/attention_choices.h"
#include "cuda/context.h"
#include "cuda/group_failure.h"
#include "cuda/kernels.h"
#include "cuda/nccl_groups.h"
#include "cuda/prepared_program.h"

namespace raylite::cuda {

namespace {

void fill(CudaFailure* failure, const char* code, const char* message, int rank = -1) {
  std::snprintf(failure->code, sizeof(failure->code), "%s", code);
  std::snprintf(failure->message, sizeof(failure->message), "%s", message);
  failure->rank = rank;
}

/// What `body` gives, or nothing and the failure.
template <class Body>
auto guarded(CudaFailure* failure, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const GroupFailure& error) {
    fill(failure, "COMM", error.what(), error.rank());
  } catch (const EngineError& error) {
    fill(failure, error.code(), error.what());
  } catch (const std::exception& error) {
    fill(failure, "ENGINE", error.what());
  }
  return {};
}

Context* context_of(void* device) { return static_cast<Context*>(device); }

int device_count(CudaFailure* failure) {
  int driver = 0, count = 0;
  cudaDriverGetVersion(&driver);  // 0 where no driver is installed
  const cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (driver == 0) fill(failure, "CUDA", "no CUDA driver");
  else if (error != cudaSuccess) fill(failure, "CUDA", cudaGetErrorString(error));
  else if (count == 0) fill(failure, "CUDA", "a CUDA driver, but no device");
  return driver == 0 || error != cudaSuccess ? 0 : count;
}

bool describe_device(int index, CudaDescription* to, CudaFailure* failure) {
  return guarded(failure, [&] {
    cudaDeviceProp properties;
    RL_CUDA(cudaGetDeviceProperties(&properties, index));
    std::snprintf(to->name, sizeof(to->name), "%s", properties.name);
    to->memory_bytes = properties.totalGlobalMem;
    to->major = properties.major, to->minor = properties.minor;
    to->processors = properties.multiProcessorCount;
    return true;
  });
}

void* open(int index, const CudaLibraries* libraries, CudaFailure* failure) {
  return guarded(failure, [&]() -> void* {
    CudaFailure none{};
    const int count = device_count(&none);
    if (count == 0) throw EngineError("CUDA", none.message);
    if (index < 0 || index >= count) {
      throw EngineError("CUDA", "there is no GPU " + std::to_string(index) + ", this process sees " + std::to_string(count));
    }
    return new Context(index, *libraries);
  });
}

void identify(void* device, CudaIdentity* identity) {
  Context& context = *context_of(device);
  if (cudaDeviceGetPCIBusId(identity->bus, sizeof(identity->bus), context.index()) != cudaSuccess) {
    std::snprintf(identity->bus, sizeof(identity->bus), "%d", context.index());
  }
  try {
    identity->nccl_version = context.groups().version();
  } catch (const EngineError& error) {
    std::snprintf(identity->reason, sizeof(identity->reason), "%s", error.what());
  }
}

constexpr CudaApi kApi{
    cuda_api_stamp(),
    device_count,
    describe_device,
    kernels,
    open,
    [](void* device) { delete context_of(device); },
    [](void* device, std::size_t bytes, CudaFailure* failure) { return guarded(failure, [&] { return context_of(device)->allocate(bytes); }); },
    [](void* device, void* memory) { context_of(device)->free(memory); },
    [](void* device, std::size_t bytes, CudaFailure* failure) {
      return guarded(failure, [&] {
        context_of(device)->use();
        void* memory = nullptr;
        RL_CUDA(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
        return memory;
      });
    },
    [](void*, void* memory) { cudaFreeHost(memory); },
    [](void* device, void* to, const void* from, std::size_t bytes, CudaFailure* failure) {
      return guarded(failure, [&] {
        context_of(device)->copy(to, from, bytes);
        return true;
      });
    },
    [](void* device, void* memory, CudaMemoryHandle* handle, CudaFailure* failure) {
      return guarded(failure, [&] {
        context_of(device)->share(memory, handle);
        return true;
      });
    },
    [](void* device, const CudaMemoryHandle* handle, CudaFailure* failure) { return guarded(failure, [&] { return context_of(device)->map(*handle); }); },
    [](void* device, void* memory) { context_of(device)->unmap(memory); },
    identify,
    [](void* device, CudaGroupId* id, CudaFailure* failure) {
      return guarded(failure, [&] {
        *id = context_of(device)->groups().new_id();
        return true;
      });
    },
    [](void* device, const CudaGroup* group, CudaFailure* failure) {
      return guarded(failure, [&] {
        context_of(device)->use();
        context_of(device)->groups().join(context_of(device)->index(), *group);
        return true;
      });
    },
    [](void* device, const CudaMessage* message, CudaFailure* failure) {
      return guarded(failure, [&] {
        context_of(device)->use();
        const auto group = context_of(device)->groups().find(*message->ranks);
        if (!group) return CudaPassed::kNotJoined;
        group->pass(*message);
        return CudaPassed::kDone;
      });
    },
    [](void* device, const Program* program, CudaFailure* failure) {
      return guarded(failure, [&]() -> void* { return new PreparedProgram(*context_of(device), *program); });
    },
    [](void* prepared) { delete static_cast<PreparedProgram*>(prepared); },
    [](void* prepared, const CudaRun* run, CudaFailure* failure) {
      return guarded(failure, [&] {
        static_cast<PreparedProgram*>(prepared)->run(*run);
        return true;
      });
    },
    [](void* device, void (*take)(void* to, const char* line), void* to) {
      for (const std::string& line : context_of(device)->attention().lines()) take(to, line.c_str());
    },
    [](const CudaLibraries* libraries, const char* properties, const CudaAttentionShape* shape, std::uint64_t* workspace, CudaFailure* failure) {
      return guarded(failure, [&] {
        *workspace = plan_library_attention(*libraries, properties, *shape);
        return true;
      });
    },
};

}  // namespace

}  // namespace raylite::cuda

extern "C" __attribute__((visibility("default"))) const raylite::CudaApi* raylite_cuda_api() { return &raylite::cuda::kApi; }

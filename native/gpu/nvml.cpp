// NVML's functions, by name.
#include "gpu/nvml.h"

#include <dlfcn.h>

#include <type_traits>

namespace raylite {

namespace {

constexpr int kSuccess = 0;
constexpr int kTemperatureOfChip = 0;
constexpr int kUncorrected = 1, kSinceLoaded = 0;
constexpr unsigned long long kXidCriticalError = 8;

struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
struct EventData {
  nvmlDevice_st* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

}  // namespace

struct Nvml::Functions {
  int (*nvmlInit_v2)();
  int (*nvmlShutdown)();
  const char* (*nvmlErrorString)(int);
  int (*nvmlDeviceGetCount_v2)(unsigned*);
  int (*nvmlDeviceGetHandleByIndex_v2)(unsigned, Device*);
  int (*nvmlDeviceGetName)(Device, char*, unsigned);
  int (*nvmlDeviceGetUUID)(Device, char*, unsigned);
  int (*nvmlDeviceGetMemoryInfo)(Device, Memory*);
  int (*nvmlDeviceGetUtilizationRates)(Device, Utilization*);
  int (*nvmlDeviceGetTemperature)(Device, int, unsigned*);
  int (*nvmlDeviceGetTotalEccErrors)(Device, int, int, unsigned long long*);
  int (*nvmlEventSetCreate)(nvmlEventSet_st**);
  int (*nvmlEventSetFree)(nvmlEventSet_st*);
  int (*nvmlDeviceRegisterEvents)(Device, unsigned long long, nvmlEventSet_st*);
  int (*nvmlEventSetWait_v2)(nvmlEventSet_st*, EventData*, unsigned);

  explicit Functions(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays open
    if (library == nullptr) throw NvmlError(dlerror());
    const auto get = [&](auto& function, const char* name) {
      void* found = dlsym(library, name);
      if (found == nullptr) throw NvmlError(path + " has no " + name);
      function = reinterpret_cast<std::decay_t<decltype(function)>>(found);
    };
#define RL_NVML(name) get(name, #name);
    RL_NVML(nvmlInit_v2)
    RL_NVML(nvmlShutdown)
    RL_NVML(nvmlErrorString)
    RL_NVML(nvmlDeviceGetCount_v2)
    RL_NVML(nvmlDeviceGetHandleByIndex_v2)
    RL_NVML(nvmlDeviceGetName)
    RL_NVML(nvmlDeviceGetUUID)
    RL_NVML(nvmlDeviceGetMemoryInfo)
    RL_NVML(nvmlDeviceGetUtilizationRates)
    RL_NVML(nvmlDeviceGetTemperature)
    RL_NVML(nvmlDeviceGetTotalEccErrors)
    RL_NVML(nvmlEventSetCreate)
    RL_NVML(nvmlEventSetFree)
    RL_NVML(nvmlDeviceRegisterEvents)
    RL_NVML(nvmlEventSetWait_v2)
  }

  void check(const char* call, int result) const {
    if (result != kSuccess) throw NvmlError(std::string(call) + ": " + nvmlErrorString(result));
  }
};

Nvml::Nvml(const std::string& path) : functions_(std::make_unique<Functions>(path)) {
  const Functions& nvml = *functions_;
  nvml.check("nvmlInit", nvml.nvmlInit_v2());
  unsigned count = 0;
  nvml.check("nvmlDeviceGetCount", nvml.nvmlDeviceGetCount_v2(&count));
  for (unsigned i = 0; i < count; i++) {
    Device device = nullptr;
    nvml.check("nvmlDeviceGetHandleByIndex", nvml.nvmlDeviceGetHandleByIndex_v2(i, &device));
    devices_.push_back(device);
  }
  xids_.resize(devices_.size());
  // Not every GPU and driver reports events.
  if (nvml.nvmlEventSetCreate(&events_) != kSuccess) events_ = nullptr;
  for (Device device : devices_) {
    if (events_ != nullptr) nvml.nvmlDeviceRegisterEvents(device, kXidCriticalError, events_);
  }
}

Nvml::~Nvml() {
  if (events_ != nullptr) functions_->nvmlEventSetFree(events_);
  functions_->nvmlShutdown();
}

void Nvml::take_events() {
  EventData event{};
  while (events_ != nullptr && functions_->nvmlEventSetWait_v2(events_, &event, 0) == kSuccess) {
    for (std::size_t i = 0; i < devices_.size(); i++) {
      if (devices_[i] == event.device) xids_[i] = event.data;
    }
  }
}

std::vector<GpuState> Nvml::look() {
  take_events();
  const Functions& nvml = *functions_;
  std::vector<GpuState> states;
  for (std::size_t i = 0; i < devices_.size(); i++) {
    const Device device = devices_[i];
    GpuState state;
    char text[96] = {};
    if (nvml.nvmlDeviceGetName(device, text, sizeof(text)) == kSuccess) state.name = text;
    if (nvml.nvmlDeviceGetUUID(device, text, sizeof(text)) == kSuccess) state.uuid = text;
    Memory memory{};
    if (nvml.nvmlDeviceGetMemoryInfo(device, &memory) == kSuccess) state.memory_bytes = memory.total, state.used_bytes = memory.used;
    Utilization busy{};
    if (nvml.nvmlDeviceGetUtilizationRates(device, &busy) == kSuccess) state.busy_percent = static_cast<int>(busy.gpu);
    unsigned celsius = 0;
    if (nvml.nvmlDeviceGetTemperature(device, kTemperatureOfChip, &celsius) == kSuccess) state.celsius = static_cast<int>(celsius);
    unsigned long long errors = 0;
    if (nvml.nvmlDeviceGetTotalEccErrors(device, kUncorrected, kSinceLoaded, &errors) == kSuccess) state.ecc_errors = static_cast<std::int64_t>(errors);
    state.last_xid = xids_[i];
    states.push_back(std::move(state));
  }
  return states;
}

}  // namespace raylite

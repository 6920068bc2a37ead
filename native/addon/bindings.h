// What each room adds to the addon's exports. Implemented in <room>_binding.cpp beside this file.
#pragma once
#include <napi.h>

#include <memory>

#include "comm/communicator.h"
#include "io/swap_file.h"

namespace raylite {

void bind_engine(Napi::Env env, Napi::Object exports);
void bind_gpu(Napi::Env env, Napi::Object exports);
void bind_comm(Napi::Env env, Napi::Object exports);
void bind_io(Napi::Env env, Napi::Object exports);
void bind_watch(Napi::Env env, Napi::Object exports);
void bind_store(Napi::Env env, Napi::Object exports);

/// The communicator inside a NativeCommunicator object; throws Napi::TypeError for anything else. In comm_binding.cpp.
std::shared_ptr<Communicator> communicator_of(const Napi::Value& value);
/// The file inside a NativeSwapFile object, likewise. In io_binding.cpp.
std::shared_ptr<SwapFile> swap_file_of(const Napi::Value& value);

}  // namespace raylite

// What each room adds to the addon's exports. Implemented in <room>_binding.cpp beside this file.
#pragma once
#include <napi.h>

namespace raylite {

void bind_engine(Napi::Env env, Napi::Object exports);
void bind_comm(Napi::Env env, Napi::Object exports);
void bind_store(Napi::Env env, Napi::Object exports);

}  // namespace raylite

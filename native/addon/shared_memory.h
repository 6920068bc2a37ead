// A device's memory for others: devices of this process take it by reference, other processes of its place by a handle.
#pragma once
#include "addon/open_device.h"

namespace raylite {

/// The methods of NativeDevice that share memory and take what is shared (src/native/addon.ts).
void add_sharing(Napi::Env env, Napi::Object object, const std::shared_ptr<OpenDevice>& device);

}  // namespace raylite

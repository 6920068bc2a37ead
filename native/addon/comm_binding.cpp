#include "addon/bindings.h"

namespace raylite {

void bind_comm(Napi::Env, Napi::Object) {}

}  // namespace raylite

#include "addon/bindings.h"

namespace raylite {

void bind_store(Napi::Env, Napi::Object) {}

}  // namespace raylite

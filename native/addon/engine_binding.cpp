#include "addon/bindings.h"

namespace raylite {

void bind_engine(Napi::Env, Napi::Object) {}

}  // namespace raylite

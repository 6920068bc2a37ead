// The door of the addon: each room registers its own part. No arithmetic and no policy here.
#include "addon/bindings.h"

namespace raylite {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  bind_engine(env, exports);
  bind_gpu(env, exports);
  bind_comm(env, exports);
  bind_watch(env, exports);
  bind_io(env, exports);
  bind_store(env, exports);
  return exports;
}

}  // namespace raylite

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return raylite::init(env, exports); }
NODE_API_MODULE(raylite, init_addon)

// watchGroups (src/native/addon.ts, NativeComm): the watch over a rank's groups, and how its news reach JavaScript.
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "addon/bindings.h"
#include "addon/communicator_object.h"
#include "comm/watchdog.h"

namespace raylite {

namespace {

Napi::Object object_of(Napi::Env env, const WatchNews& news) {
  const char* const kinds[] = {"late", "came", "broken"};
  const Napi::Object object = Napi::Object::New(env);
  object.Set("kind", kinds[static_cast<std::size_t>(news.kind)]);
  const Napi::Array ranks = Napi::Array::New(env);
  for (const int rank : news.ranks) {
    if (rank >= 0) ranks.Set(ranks.Length(), Napi::Number::New(env, rank));
  }
  object.Set("ranks", ranks);
  object.Set("message", news.message);
  return object;
}

/// Calls a function of JavaScript from the watching thread; does not keep the event loop running.
class Teller {
 public:
  Teller(Napi::Env env, Napi::Function tell) : bridge_(Bridge::New(env, tell, "raylite watch", 0, 1)) { bridge_.Unref(env); }
  ~Teller() {
    if (!is_closed_) bridge_.Release();
  }
  Teller(const Teller&) = delete;
  Teller& operator=(const Teller&) = delete;

  void tell(const WatchNews& news) {
    if (is_closed_) return;
    auto copy = std::make_unique<WatchNews>(news);
    const napi_status status = bridge_.NonBlockingCall(copy.get());
    if (status == napi_ok) copy.release();
    is_closed_ = status == napi_closing;  // with its environment
  }

 private:
  static void on_news(Napi::Env env, Napi::Function tell, std::nullptr_t*, WatchNews* raw) {
    const std::unique_ptr<WatchNews> news(raw);
    if (env != nullptr && !tell.IsEmpty()) tell.Call({object_of(env, *news)});
  }
  using Bridge = Napi::TypedThreadSafeFunction<std::nullptr_t, WatchNews, on_news>;
  Bridge bridge_;
  bool is_closed_ = false;  // for the watching thread, and whoever comes after it
};

struct Watch {
  std::unique_ptr<Teller> teller;
  std::unique_ptr<Watchdog> watchdog;  // ends first: its thread uses the other
};

/// `{ dispose() }`: what it watches is left only after that.
Napi::Value watch_groups(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray()) throw Napi::TypeError::New(env, "groups: expected an array of communicators");
  if (!info[1].IsUndefined() && !info[1].IsFunction()) throw Napi::TypeError::New(env, "tell: expected a function");
  const auto list = info[0].As<Napi::Array>();
  std::vector<std::shared_ptr<Communicator>> groups;
  for (std::uint32_t i = 0; i < list.Length(); ++i) groups.push_back(communicator_of(list.Get(i)));
  const auto watch = std::make_shared<Watch>();
  if (info[1].IsFunction()) watch->teller = std::make_unique<Teller>(env, info[1].As<Napi::Function>());
  std::function<void(const WatchNews&)> tell;
  if (watch->teller) tell = [teller = watch->teller.get()](const WatchNews& news) { teller->tell(news); };
  watch->watchdog = std::make_unique<Watchdog>(std::move(groups), std::move(tell));
  const Napi::Object result = Napi::Object::New(env);
  result.Set("dispose", Napi::Function::New(env, [watch](const Napi::CallbackInfo&) {
               watch->watchdog.reset();
               watch->teller.reset();
             }));
  return result;
}

}  // namespace

void bind_watch(Napi::Env env, Napi::Object exports) {
  exports.Set("watchGroups", Napi::Function::New(env, watch_groups, "watchGroups"));
}

}  // namespace raylite

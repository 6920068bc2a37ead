// A device joins a group of ranks, off the JavaScript thread: how its programs exchange is found out there.
#include <memory>
#include <string>
#include <utility>

#include "addon/arguments.h"
#include "addon/bindings.h"
#include "addon/open_device.h"

namespace raylite {

namespace {

/// Joins a group on a thread of the pool. Holds the device meanwhile.
class JoinWorker : public Napi::AsyncWorker {
 public:
  JoinWorker(Napi::Env env, std::shared_ptr<Device> device, std::shared_ptr<Communicator> group, double timeout_ms)
      : Napi::AsyncWorker(env), deferred(env), device_(std::move(device)), group_(std::move(group)), timeout_ms_(timeout_ms) {}
  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    try {
      reason_ = device_->join(group_, timeout_ms_);
    } catch (const CommError& error) {
      rank_ = error.rank();
      SetError(error.what());
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override { deferred.Resolve(reason_.empty() ? Env().Null() : Napi::String::New(Env(), reason_)); }
  void OnError(const Napi::Error& error) override {
    const Napi::Error coded = coded_error(Env(), "COMM", error.Message());
    if (rank_ >= 0) coded.Value().Set("rank", Napi::Number::New(Env(), rank_));
    deferred.Reject(coded.Value());
  }

 private:
  const std::shared_ptr<Device> device_;
  const std::shared_ptr<Communicator> group_;
  const double timeout_ms_;
  std::string reason_;
  int rank_ = -1;
};

}  // namespace

Napi::Value join(const Napi::CallbackInfo& info, OpenDevice& device) {
  device.live();
  const double timeout_ms = milliseconds_of(info[1], "timeoutMs");
  auto worker = std::make_unique<JoinWorker>(info.Env(), device.device, communicator_of(info[0]), timeout_ms);
  const Napi::Promise promise = worker->deferred.Promise();
  worker.release()->Queue();  // deletes itself when it has settled
  return promise;
}

}  // namespace raylite

#include "addon/communicator_object.h"

#include <functional>
#include <string>
#include <utility>

#include "addon/arguments.h"
#include "addon/bindings.h"

namespace raylite {

Napi::Error comm_error(Napi::Env env, std::exception_ptr thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const CommError& error) {
    const Napi::Error result = coded_error(env, "COMM", error.what());
    if (error.rank() >= 0) result.Value().Set("rank", Napi::Number::New(env, error.rank()));
    return result;
  } catch (const std::exception& error) {
    return coded_error(env, "COMM", error.what());
  }
}

namespace {

constexpr napi_type_tag kCommunicatorTag = {0x7261796c69746543ull, 0x6f6d6d756e696361ull};

class CommunicatorObject : public Napi::ObjectWrap<CommunicatorObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeCommunicator",
                       {InstanceAccessor<&CommunicatorObject::rank>("rank"),
                        InstanceAccessor<&CommunicatorObject::size>("size"),
                        InstanceAccessor<&CommunicatorObject::bytes_sent>("bytesSent"),
                        InstanceMethod<&CommunicatorObject::all_reduce>("allReduce"),
                        InstanceMethod<&CommunicatorObject::reduce_scatter>("reduceScatter"),
                        InstanceMethod<&CommunicatorObject::all_gather>("allGather"),
                        InstanceMethod<&CommunicatorObject::all_to_all>("allToAll"),
                        InstanceMethod<&CommunicatorObject::broadcast>("broadcast"),
                        InstanceMethod<&CommunicatorObject::send_receive>("sendReceive"),
                        InstanceMethod<&CommunicatorObject::barrier>("barrier"),
                        InstanceMethod<&CommunicatorObject::abort>("abort"),
                        InstanceMethod<&CommunicatorObject::check>("check"),
                        InstanceMethod<&CommunicatorObject::dispose>("dispose")});
  }

  explicit CommunicatorObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CommunicatorObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal()) {
      throw Napi::TypeError::New(info.Env(), "a communicator is made by joinShmGroup or joinTcpGroup");
    }
    parts_ = *info[0].As<Napi::External<CommunicatorParts>>().Data();
    rank_ = parts_.communicator->rank();
    size_ = parts_.communicator->size();
    info.This().As<Napi::Object>().TypeTag(&kCommunicatorTag);
  }

  ~CommunicatorObject() override {
    if (parts_.thread) parts_.thread->stop();
  }

  std::shared_ptr<Communicator> communicator(Napi::Env env) const {
    if (!parts_.communicator) throw coded_error(env, "COMM", "the communicator of rank " + std::to_string(rank_) + " was disposed");
    return parts_.communicator;
  }

  /// `work` runs on the communicator's thread; `self`, this object, and `data` stay until it is done.
  Napi::Value run_on(const Napi::Value& self, const Napi::Value& data, std::function<void(Communicator&)> work) {
    const Napi::Env env = self.Env();
    const std::shared_ptr<Communicator> target = communicator(env);
    const Napi::Array keep = Napi::Array::New(env, 2);
    keep.Set(0u, self);
    keep.Set(1u, data);
    return parts_.thread->call(
        env, keep, [target, work = std::move(work)] { work(*target); }, [](Napi::Env in) { return in.Undefined(); },
        comm_error);
  }

 private:
  Napi::Value rank(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), rank_); }
  Napi::Value check(const Napi::CallbackInfo& info) {
    try {
      communicator(info.Env())->check();
    } catch (const CommError&) {
      throw comm_error(info.Env(), std::current_exception());
    }
    return info.Env().Undefined();
  }
  Napi::Value size(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), size_); }
  Napi::Value bytes_sent(const Napi::CallbackInfo& info) {
    const std::uint64_t bytes = parts_.communicator ? parts_.communicator->bytes_sent() : bytes_sent_at_end_;
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  }

  /// The bytes of a typed array.
  struct Span {
    std::uint8_t* data;
    std::size_t bytes;
  };
  static Span span_of(const Napi::Value& value, const char* name) {
    if (!value.IsTypedArray()) throw Napi::TypeError::New(value.Env(), std::string(name) + ": expected a typed array");
    const auto array = value.As<Napi::TypedArray>();
    return {static_cast<std::uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
  }

  /// Floats, or 16-bit numbers as a Uint16Array of the `type` that follows.
  static Number number_of(const Napi::Value& value, const Napi::Value& type) {
    const auto kind = value.IsTypedArray() ? value.As<Napi::TypedArray>().TypedArrayType() : napi_uint8_array;
    if (kind == napi_float32_array && type.IsUndefined()) return Number::kF32;
    if (kind != napi_uint16_array) throw Napi::TypeError::New(value.Env(), "data: expected a Float32Array, or a Uint16Array and its type");
    const std::string name = string_of(type, "type");
    if (name != "bf16" && name != "f16") throw Napi::TypeError::New(value.Env(), "type: expected \"bf16\" or \"f16\", got \"" + name + "\"");
    return name == "bf16" ? Number::kBF16 : Number::kF16;
  }

  /// What one rank of all has of `data`, in units of `width` bytes.
  std::size_t slice_of(Napi::Env env, const Span& data, std::size_t width) const {
    const auto ranks = static_cast<std::size_t>(size_);
    const std::size_t elements = data.bytes / width;
    if (elements % ranks != 0) {
      throw Napi::RangeError::New(env, "data: expected a multiple of " + std::to_string(size_) + " elements, got " +
                                           std::to_string(elements));
    }
    return elements / ranks;
  }

  int peer_of(const Napi::Value& value, const char* name) const {
    const int peer = static_cast<int>(integer_of(value, name, 0, size_ - 1));
    if (peer == rank_) throw Napi::RangeError::New(value.Env(), std::string(name) + ": expected another rank, got this one");
    return peer;
  }

  Napi::Value run(const Napi::CallbackInfo& info, Napi::Value data, std::function<void(Communicator&)> work) {
    return run_on(info.This(), data, std::move(work));
  }

  Napi::Value all_reduce(const Napi::CallbackInfo& info) {
    const Number number = number_of(info[0], info[2]);
    const Span data = span_of(info[0], "data");
    const std::string op = string_of(info[1], "op");
    if (op != "sum" && op != "max") throw Napi::TypeError::New(info.Env(), "op: expected \"sum\" or \"max\", got \"" + op + "\"");
    const ReduceOp reduce = op == "sum" ? ReduceOp::kSum : ReduceOp::kMax;
    return run(info, info[0], [data, number, reduce](Communicator& group) {
      group.all_reduce(data.data, data.bytes / width_of(number), number, reduce);
    });
  }

  Napi::Value reduce_scatter(const Napi::CallbackInfo& info) {
    const Number number = number_of(info[0], info[1]);
    const Span data = span_of(info[0], "data");
    const std::size_t slice = slice_of(info.Env(), data, width_of(number));
    return run(info, info[0], [=](Communicator& group) { group.reduce_scatter(data.data, slice, number); });
  }

  Napi::Value all_gather(const Napi::CallbackInfo& info) {
    const Span data = span_of(info[0], "data");
    const std::size_t slice = slice_of(info.Env(), data, 1);
    return run(info, info[0], [=](Communicator& group) { group.all_gather(data.data, slice); });
  }

  Napi::Value all_to_all(const Napi::CallbackInfo& info) {
    const Span in = span_of(info[0], "input"), out = span_of(info[1], "output");
    if (in.bytes != out.bytes || (in.data < out.data + out.bytes && out.data < in.data + in.bytes)) {
      throw Napi::RangeError::New(info.Env(), "output: expected as many bytes as the input has, apart from it");
    }
    const std::size_t slice = slice_of(info.Env(), in, 1);
    const Napi::Array both = Napi::Array::New(info.Env(), 2);
    both.Set(0u, info[0]);
    both.Set(1u, info[1]);
    return run(info, both, [=](Communicator& group) { group.all_to_all(in.data, out.data, slice); });
  }

  Napi::Value broadcast(const Napi::CallbackInfo& info) {
    const Span data = span_of(info[0], "data");
    const int root = static_cast<int>(integer_of(info[1], "root", 0, size_ - 1));
    return run(info, info[0], [=](Communicator& group) { group.broadcast(data.data, data.bytes, root); });
  }

  Napi::Value send_receive(const Napi::CallbackInfo& info) {
    const Napi::Object options = object_of(info[0], "transfer");
    Transfer transfer;
    if (options.Has("to")) {
      const Span data = span_of(options.Get("send"), "send");
      transfer.send = data.data;
      transfer.send_bytes = data.bytes;
      transfer.to = peer_of(options.Get("to"), "to");
    }
    if (options.Has("from")) {
      const Span data = span_of(options.Get("receive"), "receive");
      transfer.receive = data.data;
      transfer.receive_bytes = data.bytes;
      transfer.from = peer_of(options.Get("from"), "from");
    }
    return run(info, options, [=](Communicator& group) { group.send_receive(transfer); });
  }

  Napi::Value barrier(const Napi::CallbackInfo& info) {
    return run(info, info.Env().Undefined(), [](Communicator& group) { group.barrier(); });
  }

  void abort(const Napi::CallbackInfo& info) { communicator(info.Env())->abort(string_of(info[0], "reason")); }

  void dispose(const Napi::CallbackInfo&) {
    if (!parts_.communicator) return;
    bytes_sent_at_end_ = parts_.communicator->bytes_sent();
    parts_.thread->stop();
    parts_ = {};
  }

  CommunicatorParts parts_;  // empty once disposed
  int rank_ = 0;
  int size_ = 0;
  std::uint64_t bytes_sent_at_end_ = 0;
};

}  // namespace

Napi::Function define_communicator(Napi::Env env) { return CommunicatorObject::define(env); }

Napi::Value call_communicator(const Napi::Value& object, const Napi::Object& keep, std::function<void(Communicator&)> work) {
  communicator_of(object);  // throws what it is not
  return CommunicatorObject::Unwrap(object.As<Napi::Object>())->run_on(object, keep, std::move(work));
}

std::shared_ptr<Communicator> communicator_of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kCommunicatorTag)) {
    throw Napi::TypeError::New(value.Env(), "expected a communicator that joinShmGroup or joinTcpGroup made");
  }
  return CommunicatorObject::Unwrap(value.As<Napi::Object>())->communicator(value.Env());
}

}  // namespace raylite

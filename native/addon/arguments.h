// Decodes what JavaScript passes in, once, at the door: a wrong type or range throws a TypeError or RangeError that names it.
#pragma once
#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>

namespace raylite {

constexpr double kSafeIntegerMax = 9007199254740991.0;

/// A JavaScript Error with the stable `code` that callers match on.
inline Napi::Error coded_error(Napi::Env env, const char* code, const std::string& message) {
  const Napi::Error error = Napi::Error::New(env, message);
  error.Value().Set("code", Napi::String::New(env, code));
  return error;
}

/// An integer of [min, max]; fractions, NaN, infinities and other types throw.
inline std::uint64_t integer_of(const Napi::Value& value, const std::string& name, double min = 0,
                                double max = kSafeIntegerMax) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= min && number <= max) || number != std::floor(number)) {
    throw Napi::RangeError::New(value.Env(), name + ": expected an integer of " + std::to_string((std::int64_t)min) +
                                                 " to " + std::to_string((std::int64_t)max) + ", got " +
                                                 value.ToString().Utf8Value());
  }
  return static_cast<std::uint64_t>(number);
}

inline std::string string_of(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) throw Napi::TypeError::New(value.Env(), name + ": expected a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.empty() || text.find('\0') != std::string::npos) {
    throw Napi::TypeError::New(value.Env(), name + ": expected a string that is not empty and has no NUL");
  }
  return text;
}

inline Napi::Object object_of(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) throw Napi::TypeError::New(value.Env(), name + ": expected an object");
  return value.As<Napi::Object>();
}

inline Napi::Array array_of(const Napi::Value& value, const std::string& name) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), name + ": expected an array");
  return value.As<Napi::Array>();
}

inline Napi::Uint8Array bytes_of(const Napi::Value& value, const std::string& name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throw Napi::TypeError::New(value.Env(), name + ": expected a Uint8Array");
  }
  return value.As<Napi::Uint8Array>();
}

/// A limit of time: milliseconds, more than none.
inline double milliseconds_of(const Napi::Value& value, const std::string& name) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(number > 0)) throw Napi::RangeError::New(value.Env(), name + ": expected a positive number of milliseconds");
  return number;
}

inline Napi::Function function_of(const Napi::Value& value, const std::string& name) {
  if (!value.IsFunction()) throw Napi::TypeError::New(value.Env(), name + ": expected a function");
  return value.As<Napi::Function>();
}

}  // namespace raylite

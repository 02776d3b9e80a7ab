// The N-API face of sockets.h. It checks types, and turns a failure into an Error with the properties `errno` (negative,
// as Node's own system errors have it) and `syscall`; src/net/native.ts adds `code` and the TypeScript types.
#include <napi.h>

#include <cstring>
#include <string>

#include "sockets.h"

namespace {

using warp::Endpoint;
using warp::Failure;

Napi::Value Throw(Napi::Env env, const Failure& failure) {
  const std::string text = std::string(failure.syscall) + ": " + std::strerror(failure.error);
  Napi::Error error = Napi::Error::New(env, text);
  error.Set("errno", Napi::Number::New(env, -failure.error));
  error.Set("syscall", Napi::String::New(env, failure.syscall));
  error.ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value ThrowType(Napi::Env env, const std::string& text) {
  Napi::TypeError::New(env, text).ThrowAsJavaScriptException();
  return env.Undefined();
}

bool ReadFd(const Napi::CallbackInfo& info, int* fd) {
  if (info.Length() < 1 || !info[0].IsNumber()) {
    ThrowType(info.Env(), "fd must be a number");
    return false;
  }
  *fd = info[0].As<Napi::Number>().Int32Value();
  return true;
}

bool ReadBoolean(Napi::Object object, const char* name, bool fallback) {
  const Napi::Value value = object.Get(name);
  return value.IsBoolean() ? value.As<Napi::Boolean>().Value() : fallback;
}

// {ip, port}; throws a TypeError and gives false for anything else.
bool ReadEndpoint(Napi::Object object, Endpoint* out) {
  const Napi::Value ip = object.Get("ip");
  const Napi::Value port = object.Get("port");
  if (!ip.IsString() || !(port.IsNumber() || port.IsUndefined())) {
    ThrowType(object.Env(), "an address needs ip (string) and port (number)");
    return false;
  }
  const int64_t number = port.IsNumber() ? port.As<Napi::Number>().Int64Value() : 0;
  if (number < 0 || number > 65535) {
    ThrowType(object.Env(), "port must be 0 to 65535");
    return false;
  }
  *out = {ip.As<Napi::String>().Utf8Value(), static_cast<uint16_t>(number)};
  return true;
}

Napi::Value OriginalDestination(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  Endpoint endpoint;
  const Failure failure = warp::OriginalDestination(fd, &endpoint);
  if (failure.error != 0) return Throw(info.Env(), failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("ip", endpoint.ip);
  result.Set("port", Napi::Number::New(info.Env(), endpoint.port));
  return result;
}

Napi::Value CreateSocket(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int family = info.Length() > 0 && info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : 0;
  if (family != 4 && family != 6) return ThrowType(env, "family must be 4 or 6");
  warp::SocketOptions options;
  options.family = family == 6 ? AF_INET6 : AF_INET;
  if (info.Length() > 1 && info[1].IsObject()) {
    const Napi::Object given = info[1].As<Napi::Object>();
    const Napi::Value mark = given.Get("mark");
    if (mark.IsNumber()) options.mark = mark.As<Napi::Number>().Uint32Value();
    options.transparent = ReadBoolean(given, "transparent", false);
    options.bind_address_no_port = ReadBoolean(given, "bindAddressNoPort", true);
    const Napi::Value bind = given.Get("bind");
    if (bind.IsObject()) {
      if (!ReadEndpoint(bind.As<Napi::Object>(), &options.bind)) return env.Undefined();
      options.has_bind = true;
    }
  }
  int fd = -1;
  const Failure failure = warp::CreateSocket(options, &fd);
  if (failure.error != 0) return Throw(env, failure);
  return Napi::Number::New(env, fd);
}

Napi::Value CreateListener(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsObject()) return ThrowType(env, "options must be an object");
  const Napi::Object given = info[0].As<Napi::Object>();
  warp::ListenerOptions options;
  if (!ReadEndpoint(given, &options.address)) return env.Undefined();
  options.reuse_port = ReadBoolean(given, "reusePort", false);
  options.transparent = ReadBoolean(given, "transparent", false);
  options.ipv6_only = ReadBoolean(given, "ipv6Only", false);
  const Napi::Value backlog = given.Get("backlog");
  if (backlog.IsNumber()) options.backlog = backlog.As<Napi::Number>().Int32Value();
  int fd = -1;
  const Failure failure = warp::CreateListener(options, &fd);
  if (failure.error != 0) return Throw(env, failure);
  return Napi::Number::New(env, fd);
}

Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  const Failure failure = warp::CloseFd(fd);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("originalDestination", Napi::Function::New(env, OriginalDestination, "originalDestination"));
  exports.Set("createSocket", Napi::Function::New(env, CreateSocket, "createSocket"));
  exports.Set("createListener", Napi::Function::New(env, CreateListener, "createListener"));
  exports.Set("closeFd", Napi::Function::New(env, CloseFd, "closeFd"));
  return exports;
}

}  // namespace

NODE_API_MODULE(warp_native, Init)

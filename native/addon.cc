// The N-API face of sockets.h, local.h and lines.h. It checks types, and turns a failure into an Error with the properties `errno` (negative,
// as Node's own system errors have it) and `syscall`; src/net/native.ts adds `code` and the TypeScript types.
#include <napi.h>

#include <cstring>
#include <string>

#include "lines.h"
#include "local.h"
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
    options.ipv6_only = ReadBoolean(given, "ipv6Only", false);
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

Napi::Value MakeTransparent(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  const Failure failure = warp::MakeTransparent(fd);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

Napi::Value IsIpv6Only(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  bool is_ipv6_only = false;
  const Failure failure = warp::IsIpv6Only(fd, &is_ipv6_only);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return Napi::Boolean::New(info.Env(), is_ipv6_only);
}

Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  const Failure failure = warp::CloseFd(fd);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return info.Env().Undefined();
}

// --------------------------------------------------------------------------------- between processes of this host

Napi::Value ConnectLocal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsNumber()) {
    return ThrowType(env, "name must be a string, timeoutMs a number");
  }
  int fd = -1;
  const Failure failure = warp::ConnectLocal(info[0].As<Napi::String>().Utf8Value(),
                                             info[1].As<Napi::Number>().Int32Value(), &fd);
  if (failure.error != 0) return Throw(env, failure);
  return Napi::Number::New(env, fd);
}

Napi::Value ReceiveParcel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int fd = -1;
  if (!ReadFd(info, &fd)) return env.Undefined();
  warp::Parcel parcel;
  const Failure failure = warp::ReceiveParcel(fd, &parcel);
  if (failure.error != 0) return Throw(env, failure);
  Napi::Array fds = Napi::Array::New(env, parcel.fds.size());
  for (uint32_t i = 0; i < parcel.fds.size(); i++) fds.Set(i, Napi::Number::New(env, parcel.fds[i]));
  Napi::Object result = Napi::Object::New(env);
  result.Set("text", Napi::String::New(env, parcel.text));
  result.Set("fds", fds);
  return result;
}

Napi::Value SendParcel(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int fd = -1;
  if (!ReadFd(info, &fd)) return env.Undefined();
  if (info.Length() < 3 || !info[1].IsString() || !info[2].IsArray()) {
    return ThrowType(env, "text must be a string, fds an array");
  }
  warp::Parcel parcel;
  parcel.text = info[1].As<Napi::String>().Utf8Value();
  const Napi::Array fds = info[2].As<Napi::Array>();
  for (uint32_t i = 0; i < fds.Length(); i++) {
    const Napi::Value value = fds.Get(i);
    if (!value.IsNumber()) return ThrowType(env, "fds must be numbers");
    parcel.fds.push_back(value.As<Napi::Number>().Int32Value());
  }
  const Failure failure = warp::SendParcel(fd, parcel);
  if (failure.error != 0) return Throw(env, failure);
  return env.Undefined();
}

Napi::Value PeerUser(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  uint32_t uid = 0;
  const Failure failure = warp::PeerUser(fd, &uid);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return Napi::Number::New(info.Env(), uid);
}

Napi::Value SendDatagram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsString() || !info[1].IsString()) {
    return ThrowType(env, "path and text must be strings");
  }
  const Failure failure =
      warp::SendDatagram(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::String>().Utf8Value());
  if (failure.error != 0) return Throw(env, failure);
  return env.Undefined();
}

Napi::Value DuplicateFd(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  int copy = -1;
  const Failure failure = warp::DuplicateFd(fd, &copy);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return Napi::Number::New(info.Env(), copy);
}

Napi::Value ListeningAddress(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  Endpoint endpoint;
  const Failure failure = warp::ListeningAddress(fd, &endpoint);
  if (failure.error != 0) return Throw(info.Env(), failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("ip", endpoint.ip);
  result.Set("port", Napi::Number::New(info.Env(), endpoint.port));
  return result;
}

Napi::Value CreateSharedMemory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t octets = info.Length() > 0 && info[0].IsNumber() ? info[0].As<Napi::Number>().Int64Value() : 0;
  if (octets <= 0) return ThrowType(env, "octets must be a positive number");
  int fd = -1;
  const Failure failure = warp::CreateSharedMemory(static_cast<size_t>(octets), &fd);
  if (failure.error != 0) return Throw(env, failure);
  return Napi::Number::New(env, fd);
}

Napi::Value MapSharedMemory(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!ReadFd(info, &fd)) return info.Env().Undefined();
  void* address = nullptr;
  size_t octets = 0;
  const Failure failure = warp::MapSharedMemory(fd, &address, &octets);
  if (failure.error != 0) return Throw(info.Env(), failure);
  return Napi::ArrayBuffer::New(info.Env(), address, octets);
}

// Called with every large chunk of every message: straight N-API, one check.
napi_value NextUnusualNewline(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value given[2];
  void* octets = nullptr;
  size_t length = 0;
  uint32_t from = 0;
  if (napi_get_cb_info(env, info, &count, given, nullptr, nullptr) != napi_ok || count < 2 ||
      napi_get_buffer_info(env, given[0], &octets, &length) != napi_ok ||
      napi_get_value_uint32(env, given[1], &from) != napi_ok) {
    napi_throw_type_error(env, nullptr, "a buffer and an index are needed");
    return nullptr;
  }
  napi_value result;
  const size_t found = warp::NextUnusualNewline(static_cast<const uint8_t*>(octets), length, from);
  return napi_create_uint32(env, static_cast<uint32_t>(found), &result) == napi_ok ? result : nullptr;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("originalDestination", Napi::Function::New(env, OriginalDestination, "originalDestination"));
  exports.Set("createSocket", Napi::Function::New(env, CreateSocket, "createSocket"));
  exports.Set("createListener", Napi::Function::New(env, CreateListener, "createListener"));
  exports.Set("makeTransparent", Napi::Function::New(env, MakeTransparent, "makeTransparent"));
  exports.Set("isIpv6Only", Napi::Function::New(env, IsIpv6Only, "isIpv6Only"));
  exports.Set("closeFd", Napi::Function::New(env, CloseFd, "closeFd"));
  exports.Set("connectLocal", Napi::Function::New(env, ConnectLocal, "connectLocal"));
  exports.Set("receiveParcel", Napi::Function::New(env, ReceiveParcel, "receiveParcel"));
  exports.Set("sendParcel", Napi::Function::New(env, SendParcel, "sendParcel"));
  exports.Set("peerUser", Napi::Function::New(env, PeerUser, "peerUser"));
  exports.Set("sendDatagram", Napi::Function::New(env, SendDatagram, "sendDatagram"));
  exports.Set("duplicateFd", Napi::Function::New(env, DuplicateFd, "duplicateFd"));
  exports.Set("listeningAddress", Napi::Function::New(env, ListeningAddress, "listeningAddress"));
  exports.Set("createSharedMemory", Napi::Function::New(env, CreateSharedMemory, "createSharedMemory"));
  exports.Set("mapSharedMemory", Napi::Function::New(env, MapSharedMemory, "mapSharedMemory"));
  napi_value next_unusual_newline;
  if (napi_create_function(env, "nextUnusualNewline", NAPI_AUTO_LENGTH, NextUnusualNewline, nullptr, &next_unusual_newline) == napi_ok) {
    exports.Set("nextUnusualNewline", Napi::Value(env, next_unusual_newline));
  }
  return exports;
}

}  // namespace

NODE_API_MODULE(warp_native, Init)

#include "address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <cstring>

namespace warp {

namespace {

std::string ScopeSuffix(uint32_t scope) {
  char name[IF_NAMESIZE];
  if (scope == 0) return "";
  if (if_indextoname(scope, name) == nullptr) return "%" + std::to_string(scope);
  return std::string("%") + name;
}

uint32_t ScopeOf(const std::string& name) {
  const uint32_t index = if_nametoindex(name.c_str());
  if (index != 0) return index;
  return static_cast<uint32_t>(std::strtoul(name.c_str(), nullptr, 10));
}

}  // namespace

Endpoint ToEndpoint(const sockaddr_storage& storage) {
  char text[INET6_ADDRSTRLEN] = {0};
  if (storage.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&storage);
    inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    return {text, ntohs(v4->sin_port)};
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&storage);
  if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
    inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, sizeof(text));
    return {text, ntohs(v6->sin6_port)};
  }
  inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
  return {text + ScopeSuffix(v6->sin6_scope_id), ntohs(v6->sin6_port)};
}

bool ToSocketAddress(int family, const std::string& ip, uint16_t port, SocketAddress* out) {
  std::memset(&out->storage, 0, sizeof(out->storage));
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&out->storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out->length = sizeof(sockaddr_in);
    return inet_pton(AF_INET, ip.c_str(), &v4->sin_addr) == 1;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out->storage);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  out->length = sizeof(sockaddr_in6);
  const size_t percent = ip.find('%');
  if (percent != std::string::npos) v6->sin6_scope_id = ScopeOf(ip.substr(percent + 1));
  std::string bare = ip.substr(0, percent);
  if (bare.find(':') == std::string::npos) bare = "::ffff:" + bare;
  return inet_pton(AF_INET6, bare.c_str(), &v6->sin6_addr) == 1;
}

}  // namespace warp

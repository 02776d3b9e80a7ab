// Addresses between their textual form ("192.0.2.1", "2001:db8::1", "fe80::1%eth0") and the kernel's. A v4-mapped IPv6
// address is given to JavaScript as plain IPv4: nobody above the addon has to know that a listener is dual-stack.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace warp {

struct Endpoint {
  std::string ip;
  uint16_t port;
};

struct SocketAddress {
  sockaddr_storage storage;
  socklen_t length;
};

// The textual form of an AF_INET or AF_INET6 address.
Endpoint ToEndpoint(const sockaddr_storage& storage);

// Fills `out` with `ip` in the given family (AF_INET or AF_INET6); an IPv4 text in AF_INET6 becomes v4-mapped.
// False where `ip` is no such address.
bool ToSocketAddress(int family, const std::string& ip, uint16_t port, SocketAddress* out);

}  // namespace warp

// What Node's own `net` cannot do with a socket: read the destination that a REDIRECT rule replaced, and set options
// before connect or bind. Plain system calls, no JavaScript. A failed call is reported as its errno and its name.
#pragma once

#include <cstdint>
#include <string>

#include "address.h"

namespace warp {

struct Failure {
  // 0: no failure.
  int error = 0;
  const char* syscall = "";
};

struct SocketOptions {
  // AF_INET or AF_INET6.
  int family = 0;
  // SO_MARK; 0 leaves it alone.
  uint32_t mark = 0;
  bool transparent = false;
  bool bind_address_no_port = true;
  // IPV6_V6ONLY: `bind` leaves the port to IPv4.
  bool ipv6_only = false;
  bool has_bind = false;
  Endpoint bind = {"", 0};
};

struct ListenerOptions {
  Endpoint address = {"", 0};
  bool reuse_port = false;
  bool transparent = false;
  bool ipv6_only = false;
  int backlog = 511;
};

// Where the connection on `fd` was going before netfilter's REDIRECT (SO_ORIGINAL_DST, for IPv6 IP6T_SO_ORIGINAL_DST).
Failure OriginalDestination(int fd, Endpoint* out);

// A non-blocking, close-on-exec TCP socket, not connected yet. `*fd` is set only where nothing failed.
Failure CreateSocket(const SocketOptions& options, int* fd);

// A non-blocking, close-on-exec TCP socket that listens. `*fd` is set only where nothing failed.
Failure CreateListener(const ListenerOptions& options, int* fd);

// IP_TRANSPARENT on a socket that somebody else made; it may listen already.
Failure MakeTransparent(int fd);

// Whether an IPv6 socket leaves IPv4 alone (IPV6_V6ONLY).
Failure IsIpv6Only(int fd, bool* out);

Failure CloseFd(int fd);

}  // namespace warp

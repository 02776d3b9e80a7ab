#include "sockets.h"

#include <cerrno>
#include <unistd.h>

namespace warp {

namespace {

// From linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h and linux/in*.h, which can't be included together
// with the C library's netinet/in.h.
constexpr int kOriginalDestination = 80;
constexpr int kBindAddressNoPort = 24;
constexpr int kIpTransparent = 19;
constexpr int kIpv6Transparent = 75;

Failure Failed(const char* syscall) { return {errno, syscall}; }

// Closes the socket unless it was released: every early return below is safe.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

bool SetOption(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

bool SetTransparent(int fd, int family) {
  if (family == AF_INET6) return SetOption(fd, SOL_IPV6, kIpv6Transparent, 1);
  return SetOption(fd, SOL_IP, kIpTransparent, 1);
}

int FamilyOf(const std::string& ip) { return ip.find(':') == std::string::npos ? AF_INET : AF_INET6; }

}  // namespace

Failure OriginalDestination(int fd, Endpoint* out) {
  sockaddr_storage local = {};
  socklen_t length = sizeof(local);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) != 0) return Failed("getsockname");
  bool ipv6 = local.ss_family == AF_INET6;
  if (!ipv6 && local.ss_family != AF_INET) return {EAFNOSUPPORT, "getsockopt"};
  // A dual-stack listener's IPv4 connection is an AF_INET6 socket to us and IPv4 to connection tracking.
  if (ipv6 && IN6_IS_ADDR_V4MAPPED(&reinterpret_cast<sockaddr_in6*>(&local)->sin6_addr)) ipv6 = false;

  sockaddr_storage original = {};
  length = ipv6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (getsockopt(fd, ipv6 ? SOL_IPV6 : SOL_IP, kOriginalDestination, &original, &length) != 0) {
    return Failed("getsockopt");
  }
  *out = ToEndpoint(original);
  return {};
}

Failure CreateSocket(const SocketOptions& options, int* fd) {
  OwnedFd owned(socket(options.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (owned.get() < 0) return Failed("socket");
  if (options.mark != 0) {
    const uint32_t mark = options.mark;
    if (setsockopt(owned.get(), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0) return Failed("setsockopt SO_MARK");
  }
  if (options.transparent && !SetTransparent(owned.get(), options.family)) {
    return Failed("setsockopt IP_TRANSPARENT");
  }
  if (options.has_bind) {
    // Without it the kernel reserves a port for the source address alone, and some 28,000 connections use them up,
    // whatever their destinations.
    if (options.bind_address_no_port && options.bind.port == 0 &&
        !SetOption(owned.get(), SOL_IP, kBindAddressNoPort, 1)) {
      return Failed("setsockopt IP_BIND_ADDRESS_NO_PORT");
    }
    if (options.bind.port != 0 && !SetOption(owned.get(), SOL_SOCKET, SO_REUSEADDR, 1)) {
      return Failed("setsockopt SO_REUSEADDR");
    }
    if (options.ipv6_only && options.family == AF_INET6 && !SetOption(owned.get(), SOL_IPV6, IPV6_V6ONLY, 1)) {
      return Failed("setsockopt IPV6_V6ONLY");
    }
    SocketAddress address;
    if (!ToSocketAddress(options.family, options.bind.ip, options.bind.port, &address)) return {EINVAL, "bind"};
    if (bind(owned.get(), reinterpret_cast<sockaddr*>(&address.storage), address.length) != 0) {
      return Failed("bind");
    }
  }
  *fd = owned.release();
  return {};
}

Failure CreateListener(const ListenerOptions& options, int* fd) {
  const int family = FamilyOf(options.address.ip);
  OwnedFd owned(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (owned.get() < 0) return Failed("socket");
  if (!SetOption(owned.get(), SOL_SOCKET, SO_REUSEADDR, 1)) return Failed("setsockopt SO_REUSEADDR");
  if (options.reuse_port && !SetOption(owned.get(), SOL_SOCKET, SO_REUSEPORT, 1)) {
    return Failed("setsockopt SO_REUSEPORT");
  }
  if (family == AF_INET6 && !SetOption(owned.get(), SOL_IPV6, IPV6_V6ONLY, options.ipv6_only ? 1 : 0)) {
    return Failed("setsockopt IPV6_V6ONLY");
  }
  if (options.transparent && !SetTransparent(owned.get(), family)) return Failed("setsockopt IP_TRANSPARENT");
  SocketAddress address;
  if (!ToSocketAddress(family, options.address.ip, options.address.port, &address)) return {EINVAL, "bind"};
  if (bind(owned.get(), reinterpret_cast<sockaddr*>(&address.storage), address.length) != 0) return Failed("bind");
  if (listen(owned.get(), options.backlog) != 0) return Failed("listen");
  *fd = owned.release();
  return {};
}

Failure MakeTransparent(int fd) {
  int family = 0;
  socklen_t length = sizeof(family);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0) return Failed("getsockopt SO_DOMAIN");
  if (!SetTransparent(fd, family)) return Failed("setsockopt IP_TRANSPARENT");
  return {};
}

Failure IsIpv6Only(int fd, bool* out) {
  int value = 0;
  socklen_t length = sizeof(value);
  if (getsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &value, &length) != 0) return Failed("getsockopt IPV6_V6ONLY");
  *out = value != 0;
  return {};
}

Failure CloseFd(int fd) {
  if (close(fd) != 0) return Failed("close");
  return {};
}

}  // namespace warp

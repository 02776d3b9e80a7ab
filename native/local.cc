#include "local.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace warp {

namespace {

constexpr size_t kMaxDescriptors = 253;
constexpr size_t kMaxText = 64 * 1024;

Failure Failed(const char* syscall) { return {errno, syscall}; }

// `name` without its leading NUL or "@" where `is_abstract`.
bool LocalAddress(const std::string& name, bool is_abstract, sockaddr_un* address, socklen_t* length) {
  std::memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  const size_t offset = is_abstract ? 1 : 0;
  if (name.empty() || name.size() + 1 > sizeof(address->sun_path)) return false;
  std::memcpy(address->sun_path + offset, name.data(), name.size());
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
  return true;
}

}  // namespace

Failure ConnectLocal(const std::string& name, int timeout_ms, int* fd) {
  sockaddr_un address;
  socklen_t length = 0;
  if (!LocalAddress(name, true, &address, &length)) return {EINVAL, "connect"};
  const int owned = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (owned < 0) return Failed("socket");
  const timeval timeout = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
  // Such a connect is done at once, unless somebody listens who never accepts: that is nobody to wait for.
  const timeval at_once = {0, 100 * 1000};
  Failure failure;
  uint32_t uid = 0;
  if (setsockopt(owned, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
      setsockopt(owned, SOL_SOCKET, SO_SNDTIMEO, &at_once, sizeof(at_once)) != 0) {
    failure = Failed("setsockopt SO_RCVTIMEO");
  } else if (connect(owned, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    failure = Failed("connect");
  } else {
    failure = PeerUser(owned, &uid);
    // The abstract namespace has no owner: anybody may have taken the name.
    if (failure.error == 0 && uid != 0 && uid != geteuid()) failure = {EPERM, "connect"};
  }
  if (failure.error != 0) {
    close(owned);
    return failure;
  }
  *fd = owned;
  return {};
}

Failure ReceiveParcel(int fd, Parcel* out) {
  std::string text(kMaxText, '\0');
  iovec vector = {text.data(), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t count;
  do {
    count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return Failed("recvmsg");
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t octets = header->cmsg_len - CMSG_LEN(0);
    const size_t before = out->fds.size();
    out->fds.resize(before + octets / sizeof(int));
    std::memcpy(out->fds.data() + before, CMSG_DATA(header), octets);
  }
  out->text = text.substr(0, static_cast<size_t>(count));
  return {};
}

Failure SendParcel(int fd, const Parcel& parcel) {
  if (parcel.fds.size() > kMaxDescriptors || parcel.text.empty() || parcel.text.size() > kMaxText) {
    return {EINVAL, "sendmsg"};
  }
  iovec vector = {const_cast<char*>(parcel.text.data()), parcel.text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!parcel.fds.empty()) {
    const size_t octets = sizeof(int) * parcel.fds.size();
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(octets);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(octets);
    std::memcpy(CMSG_DATA(header), parcel.fds.data(), octets);
  }
  const ssize_t count = sendmsg(fd, &message, MSG_NOSIGNAL);
  if (count < 0) return Failed("sendmsg");
  if (static_cast<size_t>(count) != parcel.text.size()) return {EMSGSIZE, "sendmsg"};
  return {};
}

Failure PeerUser(int fd, uint32_t* uid) {
  ucred credentials = {};
  socklen_t length = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return Failed("getsockopt SO_PEERCRED");
  *uid = credentials.uid;
  return {};
}

Failure SendDatagram(const std::string& path, const std::string& text) {
  const bool is_abstract = !path.empty() && path[0] == '@';
  sockaddr_un address;
  socklen_t length = 0;
  if (!LocalAddress(is_abstract ? path.substr(1) : path, is_abstract, &address, &length)) return {EINVAL, "sendto"};
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed("socket");
  const ssize_t count =
      sendto(fd, text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), length);
  const Failure failure = count < 0 ? Failed("sendto") : Failure{};
  close(fd);
  return failure;
}

Failure DuplicateFd(int fd, int* out) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Failed("fcntl F_DUPFD_CLOEXEC");
  *out = copy;
  return {};
}

Failure ListeningAddress(int fd, Endpoint* out) {
  int listens = 0;
  socklen_t length = sizeof(listens);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) return Failed("getsockopt SO_ACCEPTCONN");
  sockaddr_storage local = {};
  length = sizeof(local);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) != 0) return Failed("getsockname");
  if (listens == 0 || (local.ss_family != AF_INET && local.ss_family != AF_INET6)) return {EINVAL, "getsockname"};
  *out = ToEndpoint(local);
  return {};
}

Failure CreateSharedMemory(size_t octets, int* fd) {
  const int owned = memfd_create("warp", MFD_CLOEXEC);
  if (owned < 0) return Failed("memfd_create");
  if (ftruncate(owned, static_cast<off_t>(octets)) != 0) {
    const Failure failure = Failed("ftruncate");
    close(owned);
    return failure;
  }
  *fd = owned;
  return {};
}

Failure MapSharedMemory(int fd, void** address, size_t* octets) {
  struct stat facts = {};
  if (fstat(fd, &facts) != 0) return Failed("fstat");
  if (facts.st_size <= 0) return {EINVAL, "mmap"};
  void* mapped = mmap(nullptr, static_cast<size_t>(facts.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return Failed("mmap");
  *address = mapped;
  *octets = static_cast<size_t>(facts.st_size);
  return {};
}

}  // namespace warp

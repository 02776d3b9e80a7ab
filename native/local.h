// What goes between processes of one host: file descriptors over a Unix socket (SCM_RIGHTS), datagrams to a service
// manager, memory that parent and children share. Plain system calls, no JavaScript.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sockets.h"

namespace warp {

// One message with descriptors; SCM_RIGHTS takes at most 253 of them.
struct Parcel {
  std::string text;
  std::vector<int> fds;
};

// Connects to the abstract Unix socket `name`; EPERM where who listens there is neither this user nor root. Every later
// read and write of the descriptor fails after `timeout_ms`. Blocking, close-on-exec.
Failure ConnectLocal(const std::string& name, int timeout_ms, int* fd);

// Receives one parcel on a blocking descriptor. Descriptors that came are close-on-exec.
Failure ReceiveParcel(int fd, Parcel* out);

// Sends one parcel. EAGAIN where the socket is full: a parcel is small, and the first thing on its connection.
Failure SendParcel(int fd, const Parcel& parcel);

// The user id of the process at the other end of a Unix socket (SO_PEERCRED).
Failure PeerUser(int fd, uint32_t* uid);

// A datagram to a Unix socket; a path that begins with "@" is abstract.
Failure SendDatagram(const std::string& path, const std::string& text);

// A second, close-on-exec descriptor of the same open file.
Failure DuplicateFd(int fd, int* out);

// Where a listening TCP socket listens. ENOTSOCK, EINVAL: it is none.
Failure ListeningAddress(int fd, Endpoint* out);

// Anonymous memory of `octets` zeroes, as a close-on-exec descriptor that children may inherit.
Failure CreateSharedMemory(size_t octets, int* fd);

// Maps all of such memory; it stays mapped for as long as the process lives.
Failure MapSharedMemory(int fd, void** address, size_t* octets);

}  // namespace warp

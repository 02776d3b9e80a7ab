// The one thing of a message that is worth more than JavaScript: running over its lines. No JavaScript, no sockets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace warp {

// Where the first line end stands, from `from` on, that is not plainly one of text: the index of a CR without LF, of an LF
// without CR, of the CR of a CRLF behind which comes a dot or the end of the octets. `length` where there is none. An LF at
// `from` counts as one without CR: what stands before is the caller's.
size_t NextUnusualNewline(const uint8_t* octets, size_t length, size_t from);

}  // namespace warp

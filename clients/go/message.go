package hook

// The message of one BeforeRelay call. Nothing is read before it is asked for, so that a filter that decides by the
// envelope or the header section answers without waiting for the rest.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"

	"warp.example/hook/hookv1"
)

// ErrConsumed: the message was handed out by Read, and is gone.
var ErrConsumed = errors.New("hook: this message was handed out by Read; call Bytes instead of reading")

// ErrTooLong: more octets came than the server said that it takes (MaxMessageOctets).
var ErrTooLong = errors.New("hook: the message is longer than the limit that Describe gave")

// Message is one message: RFC 5322 octets with CRLF lines, not dot-stuffed. It belongs to one call, and to one goroutine
// at a time. What Header, HeaderBytes and Bytes have read is kept; Read hands octets out and keeps nothing.
type Message struct {
	// Envelope is what the proxy knows of the transaction.
	Envelope *hookv1.Envelope

	next      func() ([]byte, error) // the next chunk, or io.EOF
	kept      []byte
	octets    uint64
	maxOctets uint64
	handing   bool
	err       error // sticky; io.EOF once all has come
}

// NewMessage makes a message of an envelope and octets: for the tests of a filter.
func NewMessage(envelope *hookv1.Envelope, octets io.Reader) *Message {
	buffer := make([]byte, 64*1024)
	return newMessage(envelope, 0, func() ([]byte, error) {
		n, err := octets.Read(buffer)
		if n > 0 {
			return buffer[:n], nil
		}
		return nil, err
	})
}

func newMessage(envelope *hookv1.Envelope, maxOctets uint64, next func() ([]byte, error)) *Message {
	if envelope == nil {
		envelope = &hookv1.Envelope{}
	}
	return &Message{Envelope: envelope, maxOctets: maxOctets, next: next}
}

// Read hands the message out from its beginning, for copying and decoding without having it in memory.
func (m *Message) Read(into []byte) (int, error) {
	m.handing = true
	for len(m.kept) == 0 {
		if err := m.more(); err != nil {
			return 0, err
		}
	}
	n := copy(into, m.kept)
	m.kept = m.kept[n:]
	return n, nil
}

// Bytes gives the whole message. The slice is the message's own.
func (m *Message) Bytes() ([]byte, error) {
	if m.handing {
		return nil, ErrConsumed
	}
	// The proxy says how much will come; believed up to 32 MiB, so that nothing is copied twice.
	m.kept = slices.Grow(m.kept, int(min(m.Envelope.GetMessageOctets(), 32<<20)))
	for {
		if err := m.more(); err == io.EOF {
			return m.kept, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// HeaderBytes gives the header section with the CRLF of its last line, without the empty line; all there is, where none
// follows. The slice is the message's own.
func (m *Message) HeaderBytes() ([]byte, error) {
	if m.handing {
		return nil, ErrConsumed
	}
	for searched := 0; ; {
		if bytes.HasPrefix(m.kept, []byte("\r\n")) {
			return nil, nil
		}
		if at := bytes.Index(m.kept[searched:], []byte("\r\n\r\n")); at >= 0 {
			return m.kept[:searched+at+2], nil
		}
		searched = max(0, len(m.kept)-3)
		if err := m.more(); err == io.EOF {
			return m.kept, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// Header gives the fields of the header section, unfolded, by canonical name; what is no field is left out. The message's
// body need not have arrived.
func (m *Message) Header() (mail.Header, error) {
	octets, err := m.HeaderBytes()
	if err != nil {
		return nil, err
	}
	return parseHeader(octets), nil
}

// more reads one chunk into kept.
func (m *Message) more() error {
	if m.err != nil {
		return m.err
	}
	chunk, err := m.next()
	if err != nil {
		m.err = err
		return err
	}
	m.octets += uint64(len(chunk))
	if m.maxOctets > 0 && m.octets > m.maxOctets {
		m.err = fmt.Errorf("%w (%d octets)", ErrTooLong, m.maxOctets)
		return m.err
	}
	m.kept = append(m.kept, chunk...)
	return nil
}

// parseHeader takes CRLF lines (and is content with LF).
func parseHeader(octets []byte) mail.Header {
	header := mail.Header{}
	var name string
	var value strings.Builder
	flush := func() {
		if name != "" {
			key := textproto.CanonicalMIMEHeaderKey(name)
			header[key] = append(header[key], strings.TrimSpace(value.String()))
		}
		name = ""
		value.Reset()
	}
	for line := range bytes.Lines(octets) {
		text := strings.TrimRight(string(line), "\r\n")
		if text != "" && (text[0] == ' ' || text[0] == '\t') {
			value.WriteByte(' ')
			value.WriteString(strings.TrimLeft(text, " \t"))
			continue
		}
		flush()
		field, content, found := strings.Cut(text, ":")
		if found {
			name = strings.TrimRight(field, " \t")
			value.WriteString(content)
		}
	}
	flush()
	return header
}

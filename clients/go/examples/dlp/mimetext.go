package main

// The texts of a message, as a reader would see them: parts decoded, in Unicode, HTML without its tags.
//
// A walker of its own, since hostile mail is the point: every input gives texts or errUninspectable, in time linear to its
// size. Broken structure is read in the way that shows most (a multipart without its boundary is text, a missing end is the
// end of the message, what is around the parts is text too), for a mail client may read it so as well. RFC 2045-2047, 2231.

import (
	"bytes"
	"fmt"
	"iter"
	"regexp"
)

const (
	maxDepth       = 32
	maxParts       = 2_000
	maxHeaderLines = 20_000
	maxOctets      = 128 << 20 // of decoded parts, all together
)

var (
	noBase64 = regexp.MustCompile(`[^A-Za-z0-9+/=\s]`)
	control  = regexp.MustCompile(`[\x00-\x08\x0e-\x1a\x1c-\x1f]`)

	// Fields that a person writes, and those with a file's name; in the others long numbers are ids and times.
	written = map[string]bool{
		"subject": true, "comments": true, "keywords": true, "from": true, "to": true, "cc": true, "reply-to": true,
		"content-description": true, "content-type": true, "content-disposition": true,
	}
)

// texts gives every text of an RFC 5322 message: of the header what people write, then each part. An error is the last
// thing that it gives.
func texts(message []byte) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		w := &walker{yield: func(text string) bool { return yield(text, nil) }, parts: maxParts, octets: maxOctets}
		w.entity(message, "text/plain", 0)
		if w.err != nil && !w.ended {
			yield("", w.err)
		}
	}
}

type walker struct {
	yield         func(string) bool
	parts, octets int
	ended         bool // nobody wants more texts
	err           error
}

func (w *walker) text(text string) {
	if !w.done() && !w.yield(text) {
		w.ended = true
	}
}

func (w *walker) done() bool { return w.ended || w.err != nil }

func (w *walker) fail(reason string) { w.err = fmt.Errorf("%w: %s", errUninspectable, reason) }

func (w *walker) entity(octets []byte, defaultType string, depth int) {
	w.parts--
	w.octets -= len(octets)
	if depth > maxDepth || w.parts < 0 || w.octets < 0 {
		w.fail("too many parts, or too deeply nested")
	}
	header, body := split(octets)
	if bytes.Count(header, []byte("\n")) > maxHeaderLines {
		w.fail("too many header fields")
	}
	if w.done() {
		return
	}
	fields := parseFields(header)
	for _, field := range fields {
		if written[field.name] {
			w.text(decodeWords(field.value))
		}
	}
	media, parameters := mediaType(first(fields, "content-type", defaultType))
	encoding := lower(first(fields, "content-transfer-encoding", ""))
	switch boundary := boundaryOf(parameters); {
	case hasPrefix(media, "multipart/") && boundary != "":
		if !bytes.Contains(body, []byte(boundary)) {
			body = decodeTransfer(body, encoding)
		}
		inner := "text/plain"
		if media == "multipart/digest" {
			inner = "message/rfc822"
		}
		w.multipart(body, boundary, inner, depth)
	case media == "message/rfc822", media == "message/global":
		w.entity(decodeTransfer(body, encoding), "text/plain", depth+1)
	default:
		w.leaf(body, encoding, media, parameters["charset"])
	}
}

// multipart takes every delimiter line for one, also behind the last: some readers go on there.
func (w *walker) multipart(body []byte, boundary, inner string, depth int) {
	delimiter := []byte("--" + boundary)
	isPart := false
	start := 0 // of the segment at hand
	for at := 0; at <= len(body) && !w.done(); {
		end, next := lineEnd(body, at)
		line := bytes.TrimRight(body[at:end], " \t")
		closing := bytes.HasPrefix(line, delimiter) && string(line[len(delimiter):]) == "--"
		if closing || bytes.Equal(line, delimiter) {
			w.segment(withoutLineEnd(body[start:at]), isPart, inner, depth)
			start, isPart = next, !closing
		}
		if next == end {
			break
		}
		at = next
	}
	w.segment(body[start:], isPart, inner, depth)
}

func (w *walker) segment(octets []byte, isPart bool, inner string, depth int) {
	if w.done() {
		return
	}
	if isPart {
		w.entity(octets, inner, depth+1)
	} else if len(bytes.TrimSpace(octets)) > 0 { // before the first part or behind the last
		w.text(latin1(octets))
	}
}

func (w *walker) leaf(body []byte, encoding, media, charset string) {
	decoded := decodeTransfer(body, encoding)
	if encoding == "base64" && noBase64.Match(body) {
		w.text(latin1(body)) // it says base64 and is something else
	}
	if !hasPrefix(media, "text/") && !hasPrefix(media, "message/") && !hasPrefix(media, "multipart/") && !looksLikeText(decoded) {
		return
	}
	for _, text := range toUnicode(decoded, charset) {
		w.text(text)
		if media == "text/html" {
			w.text(withoutTags(text))
		}
	}
}

func looksLikeText(octets []byte) bool {
	if bytes.HasPrefix(octets, []byte("\xff\xfe")) || bytes.HasPrefix(octets, []byte("\xfe\xff")) {
		return true
	}
	return !control.Match(octets[:min(len(octets), 1024)])
}

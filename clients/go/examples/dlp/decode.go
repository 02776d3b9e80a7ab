package main

// Transfer encodings, charsets and HTML, decoded leniently: whatever can be read is.

import (
	"encoding/base64"
	"html"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

var blockTag = regexp.MustCompile(`(?i)^/?(?:p|div|br|hr|td|th|tr|li|table|h[1-6])\b`)

func decodeTransfer(body []byte, encoding string) []byte {
	switch encoding {
	case "base64":
		return decodeBase64(body)
	case "quoted-printable":
		return decodeQuotedPrintable(body)
	}
	return body
}

// decodeBase64 skips other octets, and decodes what follows padding too (some readers do).
func decodeBase64(body []byte) []byte {
	decoded := make([]byte, 0, len(body)/4*3+3)
	piece := make([]byte, 0, len(body)+3)
	flush := func() {
		whole := len(piece)
		if whole%4 == 1 { // one left over is less than an octet
			whole--
		}
		start := len(decoded)
		decoded = append(decoded, make([]byte, base64.RawStdEncoding.DecodedLen(whole))...)
		n, _ := base64.RawStdEncoding.Decode(decoded[start:], piece[:whole]) // the alphabet was checked: no error is left
		decoded = decoded[:start+n]
		piece = piece[:0]
	}
	for _, octet := range body {
		switch {
		case octet >= 'A' && octet <= 'Z', octet >= 'a' && octet <= 'z', octet >= '0' && octet <= '9', octet == '+', octet == '/':
			piece = append(piece, octet)
		case octet == '=' && len(piece) > 0:
			flush()
		}
	}
	flush()
	return decoded
}

// decodeQuotedPrintable keeps what is no escape.
func decodeQuotedPrintable(body []byte) []byte {
	decoded := make([]byte, 0, len(body))
	for at := 0; at < len(body); at++ {
		if body[at] != '=' {
			decoded = append(decoded, body[at])
			continue
		}
		if at+2 < len(body) {
			high, low := unhex(body[at+1]), unhex(body[at+2])
			if high >= 0 && low >= 0 {
				decoded = append(decoded, byte(high<<4|low))
				at += 2
				continue
			}
		}
		if next := afterSoftBreak(body, at+1); next > 0 {
			at = next - 1
		} else {
			decoded = append(decoded, '=')
		}
	}
	return decoded
}

// afterSoftBreak gives where the next line begins, if nothing but blanks comes before it; else 0. Blanks are few: a longer
// row of them is no soft break, so that a body of nothing but "=" and blanks is not read over and over.
func afterSoftBreak(body []byte, at int) int {
	for limit := at + 80; at < len(body) && at < limit; at++ {
		switch body[at] {
		case ' ', '\t', '\r':
		case '\n':
			return at + 1
		default:
			return 0
		}
	}
	return 0
}

func unhex(digit byte) int {
	switch {
	case digit >= '0' && digit <= '9':
		return int(digit - '0')
	case digit >= 'A' && digit <= 'F':
		return int(digit-'A') + 10
	case digit >= 'a' && digit <= 'f':
		return int(digit-'a') + 10
	}
	return -1
}

// toUnicode gives the text in its charset; where that is wide or escaped, also as it is (for the label may be wrong), first.
func toUnicode(octets []byte, charset string) []string {
	name := strings.ReplaceAll(lower(charset), "_", "-")
	text := string(octets)
	switch {
	case hasPrefix(text, "\xff\xfe\x00\x00"), hasPrefix(text, "\x00\x00\xfe\xff"):
		name = "utf-32"
	case hasPrefix(text, "\xff\xfe"), hasPrefix(text, "\xfe\xff"):
		name = "utf-16"
	}
	switch strings.TrimPrefix(strings.ReplaceAll(name, "-", ""), "utf") {
	case "16", "16be", "16le":
		order := unicode.LittleEndian
		if strings.HasSuffix(name, "be") {
			order = unicode.BigEndian
		}
		decoded, _ := unicode.UTF16(order, unicode.UseBOM).NewDecoder().Bytes(octets) // puts U+FFFD where it can't
		return []string{latin1(octets), string(decoded)}
	case "32", "32be", "32le":
		order := utf32.LittleEndian
		if strings.HasSuffix(name, "be") {
			order = utf32.BigEndian
		}
		decoded, _ := utf32.UTF32(order, utf32.UseBOM).NewDecoder().Bytes(octets)
		return []string{latin1(octets), string(decoded)}
	case "7":
		return []string{latin1(octets), decodeUTF7(text)}
	}
	if encoding, err := htmlindex.Get(name); err == nil {
		if decoded, err := encoding.NewDecoder().Bytes(octets); err == nil {
			return []string{latin1(octets), string(decoded)}
		}
	}
	return []string{strings.ToValidUTF8(text, "\ufffd")}
}

// decodeUTF7 gives RFC 2152's text.
func decodeUTF7(text string) string {
	var decoded strings.Builder
	for {
		start := strings.IndexByte(text, '+')
		if start < 0 {
			break
		}
		decoded.WriteString(text[:start])
		text = text[start+1:]
		end := strings.IndexFunc(text, isNotBase64)
		if end < 0 {
			end = len(text)
		}
		if end == 0 {
			decoded.WriteByte('+')
		}
		octets := decodeBase64([]byte(text[:end]))
		units := make([]uint16, 0, len(octets)/2)
		for at := 0; at+1 < len(octets); at += 2 {
			units = append(units, uint16(octets[at])<<8|uint16(octets[at+1]))
		}
		decoded.WriteString(string(utf16.Decode(units)))
		text = strings.TrimPrefix(text[end:], "-")
	}
	decoded.WriteString(text)
	return decoded.String()
}

func isNotBase64(symbol rune) bool {
	return !(symbol >= 'A' && symbol <= 'Z' || symbol >= 'a' && symbol <= 'z' || symbol >= '0' && symbol <= '9' ||
		symbol == '+' || symbol == '/')
}

func latin1(octets []byte) string {
	var text strings.Builder
	text.Grow(len(octets))
	for _, octet := range octets {
		if octet < utf8.RuneSelf {
			text.WriteByte(octet)
		} else {
			text.WriteRune(rune(octet))
		}
	}
	return text.String()
}

// withoutTags ends a line where a block does; other tags are nothing. A "<" that no ">" follows before the next is text.
func withoutTags(text string) string {
	var shown strings.Builder
	shown.Grow(len(text))
	for {
		open := strings.IndexByte(text, '<')
		if open < 0 {
			break
		}
		shown.WriteString(text[:open])
		text = text[open+1:]
		end := strings.IndexAny(text, "<>")
		if end < 0 || text[end] == '<' {
			shown.WriteByte('<')
			continue
		}
		if blockTag.MatchString(text[:min(end, 16)]) {
			shown.WriteByte('\n')
		}
		text = text[end+1:]
	}
	shown.WriteString(text)
	return html.UnescapeString(shown.String())
}

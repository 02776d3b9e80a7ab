package main

// Header sections, media types and their parameters, read leniently. Lines may end in LF.

import (
	"bytes"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var (
	fold      = regexp.MustCompile(`\r?\n[ \t]+`)
	parameter = regexp.MustCompile(`(?s);\s*([^\s=;"]{1,64})\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)`)
	escaped   = regexp.MustCompile(`(?s)\\(.)`)
)

type headerField struct{ name, value string }

// split gives header section and body; where no empty line is, all is header.
func split(octets []byte) (header, body []byte) {
	for at := 0; at < len(octets); {
		end, next := lineEnd(octets, at)
		if end == at && next > end {
			return octets[:at], octets[next:]
		}
		at = max(next, at+1)
	}
	return octets, nil
}

// lineEnd gives where the line that begins at start ends, and where the next one begins (the same, for the last).
func lineEnd(octets []byte, start int) (end, next int) {
	newline := bytes.IndexByte(octets[start:], '\n')
	if newline < 0 {
		return len(octets), len(octets)
	}
	end, next = start+newline, start+newline+1
	if end > start && octets[end-1] == '\r' {
		end--
	}
	return end, next
}

func withoutLineEnd(octets []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(octets, []byte("\n")), []byte("\r"))
}

func parseFields(header []byte) []headerField {
	var fields []headerField
	for line := range strings.Lines(fold.ReplaceAllString(string(header), " ")) {
		line = strings.TrimRight(line, "\r\n")
		name, value, found := strings.Cut(line, ":")
		if !found { // a line that is no field is read as text, for that is how it is shown
			name, value = "comments", line
		}
		fields = append(fields, headerField{lower(name), value})
	}
	return fields
}

func first(fields []headerField, name, otherwise string) string {
	for _, field := range fields {
		if field.name == name {
			return field.value
		}
	}
	return otherwise
}

// mediaType gives type/subtype in lower case, and the parameters; the first of two with one name.
func mediaType(value string) (string, map[string]string) {
	value = value[:min(len(value), 16384)]
	parameters := map[string]string{}
	for _, match := range parameter.FindAllStringSubmatch(value, -1) {
		name, text := lower(match[1]), strings.TrimSpace(match[2])
		if len(match[2]) > 1 && match[2][0] == '"' && match[2][len(match[2])-1] == '"' {
			text = escaped.ReplaceAllString(match[2][1:len(match[2])-1], "$1")
		}
		if _, known := parameters[name]; !known {
			parameters[name] = text
		}
	}
	media, _, _ := strings.Cut(value, ";")
	return lower(media), parameters
}

// boundaryOf gives the boundary, also where RFC 2231 wrote it in pieces (boundary*0=…; boundary*1*=…).
func boundaryOf(parameters map[string]string) string {
	if boundary, ok := parameters["boundary"]; ok {
		return strings.TrimRight(boundary, " \t")
	}
	joined := ""
	for number := range 16 {
		name := "boundary*" + strconv.Itoa(number)
		plain, isPlain := parameters[name]
		encoded, isEncoded := parameters[name+"*"]
		if !isPlain && !isEncoded {
			break
		}
		if isPlain {
			joined += plain
		} else {
			joined += percentDecoded(encoded)
		}
	}
	if joined == "" {
		joined = percentDecoded(parameters["boundary*"])
	}
	return strings.TrimRight(joined[strings.LastIndexByte(joined, '\'')+1:], " \t") // charset'language'value
}

func percentDecoded(text string) string {
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}

// decodeWords gives a field's value with its encoded words (RFC 2047) decoded; blanks between two of them are none.
func decodeWords(value string) string {
	var decoded strings.Builder
	afterWord := false
	for {
		start := strings.Index(value, "=?")
		if start < 0 {
			break
		}
		before := value[:start]
		word, length := encodedWord(value[start:])
		if length == 0 {
			decoded.WriteString(value[:start+2])
			value, afterWord = value[start+2:], false
			continue
		}
		if !afterWord || strings.Trim(before, " \t") != "" {
			decoded.WriteString(before)
		}
		decoded.WriteString(word)
		value, afterWord = value[start+length:], true
	}
	decoded.WriteString(value)
	return decoded.String()
}

// encodedWord reads "=?charset?encoding?text?=", with which text begins: what it stands for, and its length; 0: it is none.
func encodedWord(text string) (string, int) {
	charset, rest, _ := strings.Cut(text[len("=?"):min(len(text), 80)], "?")
	start := len("=?") + len(charset) + len("?q?")
	if charset == "" || len(rest) < 2 || rest[1] != '?' || strings.ContainsAny(charset, " \t") {
		return "", 0
	}
	end := strings.IndexByte(text[start:], '?')
	if end < 0 || !strings.HasPrefix(text[start+end:], "?=") {
		return "", 0
	}
	content := text[start : start+end]
	var octets []byte
	switch rest[0] {
	case 'b', 'B':
		octets = decodeBase64([]byte(content))
	case 'q', 'Q':
		octets = decodeQuotedPrintable([]byte(strings.ReplaceAll(content, "_", " ")))
	default:
		return "", 0
	}
	charset, _, _ = strings.Cut(charset, "*") // a language may follow (RFC 2231)
	readings := toUnicode(octets, charset)
	return readings[len(readings)-1], start + end + len("?=")
}

func lower(text string) string { return strings.ToLower(strings.TrimSpace(text)) }

func hasPrefix(text, prefix string) bool { return strings.HasPrefix(text, prefix) }

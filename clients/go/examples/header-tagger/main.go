// Header-tagger is a filter that scores each message by a few simple signs and writes the score into X-Spam-Score.
//
//	go run ./examples/header-tagger 127.0.0.1:7001
//	warp --filter tagger=127.0.0.1:7001 …
//
// It looks at the header section only, so the proxy need not send bodies, and the verdict comes before a large message has
// been sent. Whatever a client had written into the field is replaced: a score that anybody can send means nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"mime"
	"net/mail"
	"os"
	"slices"
	"strings"
	"unicode"

	"warp.example/hook"
	"warp.example/hook/hookv1"
)

const field = "X-Spam-Score"

type sign struct {
	tag    string
	points float64
	shown  bool
}

// tag scores, and replaces the field; the signs that were seen become the verdict's tags.
func tag(_ context.Context, message *hook.Message) (hook.Verdict, error) {
	header, err := message.Header()
	if err != nil {
		return hook.Verdict{}, err
	}
	var score float64
	var tags []string
	for _, sign := range signs(message.Envelope, header) {
		if sign.shown {
			score += sign.points
			tags = append(tags, sign.tag)
		}
	}
	slices.Sort(tags)
	verdict := hook.AddHeader(hook.Remove(field, 0), hook.Insert(field, fmt.Sprintf("%.1f", score)))
	return verdict.WithScore(score).WithTags(tags...), nil
}

func signs(envelope *hookv1.Envelope, header mail.Header) []sign {
	subject := decoded(header.Get("Subject"))
	return []sign{
		{"no-date", 1.0, header.Get("Date") == ""},
		{"no-from", 2.0, header.Get("From") == ""},
		{"no-message-id", 0.5, header.Get("Message-Id") == ""},
		{"no-subject", 0.5, strings.TrimSpace(subject) == ""},
		{"shouting", 1.5, isShouted(subject)},
		{"many-recipients", 1.0, len(envelope.GetRecipients()) > 50},
	}
}

// decoded gives the text of encoded words (RFC 2047); text that is none comes back as it is.
func decoded(text string) string {
	if words, err := new(mime.WordDecoder).DecodeHeader(text); err == nil {
		return words
	}
	return text
}

func isShouted(text string) bool {
	letters := 0
	for _, letter := range text {
		if unicode.IsLetter(letter) {
			letters++
			if !unicode.IsUpper(letter) {
				return false
			}
		}
	}
	return letters >= 8
}

func server() *hook.Server {
	return &hook.Server{Name: "header-tagger", Version: "1.0", HeaderOnly: true, Handlers: []hook.Handler{hook.Filter(tag)}}
}

func main() {
	flags := hook.AddFlags(flag.CommandLine)
	flag.Parse()
	os.Exit(flags.Main(server()))
}

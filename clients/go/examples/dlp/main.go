// Dlp is a filter that refuses messages with payment card numbers (data loss prevention).
//
//	go run ./examples/dlp 127.0.0.1:7002
//	warp --filter dlp=127.0.0.1:7002 …
//
// Looked at: the subject and other fields that people write, every text part (nested, base64 or quoted-printable, in any
// usual charset, HTML without its tags), and attachments that look like text. Not looked at: archives, PDF, images. What
// cannot be inspected within bounds (parts nested over 32 deep, thousands of parts, millions of digit groups) is refused too:
// otherwise that would be the way around the filter.
package main

import (
	"context"
	"errors"
	"flag"
	"os"

	"warp.example/hook"
)

// errUninspectable: there is more in the message than is looked at.
var errUninspectable = errors.New("uninspectable")

func check(ctx context.Context, message *hook.Message) (hook.Verdict, error) {
	octets, err := message.Bytes()
	if err != nil {
		return hook.Verdict{}, err
	}
	found, err := hasCardNumber(ctx, octets)
	switch {
	case errors.Is(err, errUninspectable):
		return hook.Reject(554, "5.7.1", "Message cannot be inspected").WithTags("uninspectable").WithNote(err.Error()), nil
	case err != nil:
		return hook.Verdict{}, err
	case found: // the number itself is in no reply, log or event
		return hook.Reject(550, "5.7.1", "Message contains a payment card number").WithTags("card-number"), nil
	case message.Envelope.GetTruncated() || message.Envelope.GetHeaderOnly():
		return hook.Relay().WithTags("partly-inspected"), nil
	}
	return hook.Relay(), nil
}

func hasCardNumber(ctx context.Context, message []byte) (bool, error) {
	search := newSearch()
	for text, err := range texts(message) {
		if err != nil {
			return false, err
		}
		count, err := search.find(text)
		if count > 0 || err != nil {
			return count > 0, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	return false, nil
}

func server() *hook.Server {
	// Eight at once: each has its message in memory.
	return &hook.Server{Name: "dlp", Version: "1.0", Concurrency: 8, Handlers: []hook.Handler{hook.Filter(check)}}
}

func main() {
	flags := hook.AddFlags(flag.CommandLine)
	flag.Parse()
	os.Exit(flags.Main(server()))
}

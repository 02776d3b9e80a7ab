package hook

// What cannot be seen from outside: the rhythm of acknowledgements, the checks of verdicts, messages at any split.

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"warp.example/hook/hookv1"
)

func TestASlowObserverRepeatsTheLastAcknowledgement(t *testing.T) {
	before := repeatAfter
	repeatAfter = 10 * time.Millisecond
	open := make(chan struct{})
	store := Observer(func(_ context.Context, batch Batch) error {
		if batch.Events[0].Sequence == 2 {
			<-open
		}
		return nil
	})
	server := &Server{Handlers: []Handler{store}}
	server.setDefaults()
	made, err := newService(server)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := grpc.NewServer()
	hookv1.RegisterHookServiceServer(running, made)
	go func() { _ = running.Serve(listener) }()
	connection, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		connection.Close()
		running.Stop() // waits for the handlers
		repeatAfter = before
	})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	stream, err := hookv1.NewHookServiceClient(connection).Observe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := range uint64(2) {
		_ = stream.Send(&hookv1.ObserveRequest{Events: []*hookv1.Event{{Sequence: sequence + 1}}})
	}
	for range 3 {
		if answer, err := stream.Recv(); err != nil || answer.AckedSequence != 1 {
			t.Fatal(answer, err)
		}
	}
	close(open)
	for {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if answer.AckedSequence == 2 {
			return
		}
	}
}

func TestBuildersRefuseWhatTheProxyWould(t *testing.T) {
	for name, verdict := range map[string]Verdict{
		"none":                      {},
		"250":                       Reject(250, "", "x"),
		"99":                        Reject(99, "", "x"),
		"-1":                        Reject(-1, "", "x"),
		"421":                       Reject(421, "", "x"),
		"521":                       Reject(521, "", "x"),
		"600":                       Reject(600, "", "x"),
		"other class":               Reject(550, "4.7.1", "x"),
		"half an enhanced code":     Reject(550, "5.7", "x"),
		"letters":                   Reject(550, "5.a.1", "x"),
		"long enhanced code":        Reject(550, "5.7.1000", "x"),
		"no text":                   Reject(550, "", ""),
		"CR LF in text":             Reject(550, "", "a\r\nb"),
		"8-bit text":                Reject(550, "", "ä"),
		"long text":                 Reject(550, "", strings.Repeat("a", 401)),
		"no edits":                  AddHeader(),
		"empty edit":                AddHeader(Edit{}),
		"injected field":            AddHeader(Insert("X\r\nBcc", "a")),
		"name with a space":         AddHeader(Add("X Y", "a")),
		"name with a colon":         AddHeader(Set("X:", "a", 1)),
		"no name":                   AddHeader(Remove("", 0)),
		"8-bit name":                AddHeader(Insert("Xä", "a")),
		"injected body":             AddHeader(Insert("X", "a\r\n\r\nbody")),
		"NUL":                       AddHeader(Insert("X", "a\x00")),
		"invalid UTF-8":             AddHeader(Insert("X", "\xff")),
		"bare LF":                   Replace([]byte("a\r\nb\nc")),
		"bare CR":                   Replace([]byte("a\rb\r\n")),
		"CR at the end":             Replace([]byte("a\r")),
		"no number":                 Relay().WithScore(math.NaN()),
		"infinite":                  Relay().WithScore(math.Inf(1)),
		"note that is no text":      Relay().WithNote("\xff"),
		"tag that is no text":       Relay().WithTags("\xff"),
		"bad among good edits":      AddHeader(Insert("X", "a"), Insert("", "b")),
		"score does not make a one": Verdict{}.WithScore(1),
	} {
		if response, err := verdict.Response(); err == nil {
			t.Errorf("%s: %v passed", name, response)
		}
	}
	for name, verdict := range map[string]Verdict{
		"a stuffed-looking replacement": Replace([]byte("a: b\r\n\r\n.\r\n..\r\n")),
		"an empty replacement":          Replace(nil),
		"a long 8-bit value":            AddHeader(Insert("X", strings.Repeat("ä", 5_000))),
		"discard":                       Discard(),
	} {
		if _, err := verdict.Response(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatStandsBesideAVerdictLeavesTheFirstOneAsItWas(t *testing.T) {
	first := Relay().WithTags("a")
	second, third := first.WithTags("b").WithScore(2), first.WithTags("c").WithNote("n")
	if len(first.response.Tags) != 1 || first.response.Score != 0 || second.response.Tags[1] != "b" || third.response.Tags[1] != "c" {
		t.Error(first.response, second.response, third.response)
	}
}

func TestFindsTheHeaderAtAnySplit(t *testing.T) {
	for octets, header := range map[string]string{
		"a: b\r\nc: d\r\n\r\nbody\r\n\r\n":       "a: b\r\nc: d\r\n",
		"\r\nbody\r\n\r\n":                       "",
		"a: b\r\n":                               "a: b\r\n",
		"a: b":                                   "a: b",
		"":                                       "",
		"a: b\n\nstill header\r\n\r\n":           "a: b\n\nstill header\r\n",
		strings.Repeat("x", 70_000) + "\r\n\r\n": strings.Repeat("x", 70_000) + "\r\n",
	} {
		readers := []io.Reader{strings.NewReader(octets), iotest.DataErrReader(strings.NewReader(octets))}
		if len(octets) < 100 {
			readers = append(readers, iotest.OneByteReader(strings.NewReader(octets)))
		}
		for _, reader := range readers {
			message := NewMessage(nil, reader)
			if got, err := message.HeaderBytes(); string(got) != header || err != nil {
				t.Errorf("%.40q: header %.40q, %v", octets, got, err)
			}
			if got, err := message.Bytes(); string(got) != octets || err != nil {
				t.Errorf("%.40q: whole %.40q, %v", octets, got, err)
			}
			if got, err := io.ReadAll(message); string(got) != octets || err != nil {
				t.Errorf("%.40q: read %.40q, %v", octets, got, err)
			}
		}
	}
}

func TestReadingHandsOutOnce(t *testing.T) {
	message := NewMessage(nil, strings.NewReader("a: b\r\n\r\nxyz"))
	if err := iotest.TestReader(message, []byte("a: b\r\n\r\nxyz")); err != nil {
		t.Error(err)
	}
	if _, err := message.Bytes(); err != ErrConsumed {
		t.Error(err)
	}
	if _, err := message.Header(); err != ErrConsumed {
		t.Error(err)
	}
}

func TestABrokenUploadIsNoShorterMessage(t *testing.T) {
	message := NewMessage(nil, io.MultiReader(strings.NewReader("a: b\r\n"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	for range 2 {
		if octets, err := message.HeaderBytes(); err != io.ErrUnexpectedEOF {
			t.Errorf("%q %v", octets, err)
		}
		if octets, err := message.Bytes(); err != io.ErrUnexpectedEOF {
			t.Errorf("%q %v", octets, err)
		}
	}
}

func TestReadsFieldsOfBrokenHeaders(t *testing.T) {
	header := parseHeader([]byte("Subject: one\r\n\ttwo\r\nno field\r\n\xff\x00: \xfe\r\nsubject:three\r\n: empty name\r\nX :y\r\n folded\r\n"))
	if got := strings.Join(header["Subject"], "|"); got != "one two|three" {
		t.Errorf("%q", got)
	}
	if got := header.Get("X"); got != "y folded" {
		t.Errorf("%q", got)
	}
	if parseHeader([]byte(" folded before any field\r\nA: b\r\n")).Get("A") != "b" {
		t.Error("a fold at the top swallowed a field")
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("A: b\r\n c\r\n\r\n"))
	f.Add([]byte(" \n:\n\x00"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		for name, values := range parseHeader(octets) {
			for _, value := range values {
				if strings.ContainsAny(value, "\n") || name == "" {
					t.Errorf("%q: %q", name, value)
				}
			}
		}
		if _, err := NewMessage(nil, bytes.NewReader(octets)).HeaderBytes(); err != nil {
			t.Error(err)
		}
	})
}

package hook_test

// A hook behind a real gRPC connection: what the proxy sees of it, also when its handlers fail, hang or are slow.

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"warp.example/hook"
	"warp.example/hook/hooktest"
	"warp.example/hook/hookv1"
)

const megabytes = 10 << 20

// within bounds each step of a test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func relayAll(context.Context, *hook.Message) (hook.Verdict, error) { return hook.Relay(), nil }

func wantCode(t *testing.T, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, wanted %v", err, code)
	}
}

func events(sequences ...uint64) *hookv1.ObserveRequest {
	request := &hookv1.ObserveRequest{Source: &hookv1.Source{Proxy: "test", Worker: 1, Epoch: "E1"}}
	for _, sequence := range sequences {
		request.Events = append(request.Events, &hookv1.Event{
			Sequence: sequence,
			Kind:     &hookv1.Event_AfterTransaction{AfterTransaction: &hookv1.AfterTransaction{}},
		})
	}
	return request
}

type stream = grpc.BidiStreamingClient[hookv1.ObserveRequest, hookv1.ObserveResponse]

func observe(t *testing.T, connection grpc.ClientConnInterface, requests ...*hookv1.ObserveRequest) stream {
	t.Helper()
	made, err := hookv1.NewHookServiceClient(connection).Observe(within(t))
	if err != nil {
		t.Fatal(err)
	}
	send(t, made, requests...)
	return made
}

func send(t *testing.T, to stream, requests ...*hookv1.ObserveRequest) {
	t.Helper()
	for _, request := range requests {
		if err := to.Send(request); err != nil && err != io.EOF { // EOF: the stream has ended, and Recv says why
			t.Fatal(err)
		}
	}
}

func wantAcks(t *testing.T, from stream, sequences ...uint64) {
	t.Helper()
	for _, wanted := range sequences {
		answer, err := from.Recv()
		if err != nil || answer.AckedSequence != wanted {
			t.Fatalf("got %v (%v), wanted %d", answer, err, wanted)
		}
	}
}

// ------------------------------------------------------------------ Describe

func TestDescribeNamesWhatThereAreHandlersFor(t *testing.T) {
	nothing := func(context.Context, hook.Batch) error { return nil }
	server := &hook.Server{
		Name: "mine", Version: "2.1", MaxMessageOctets: 1000, HeaderOnly: true,
		Handlers: []hook.Handler{hook.Filter(relayAll), hook.TransactionObserver(nothing), hook.Observer(nothing)},
	}
	answer, err := hookv1.NewHookServiceClient(hooktest.Dial(t, server)).Describe(within(t), &hookv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	wanted := []hookv1.Capability{3, 4, 1, 2}
	if answer.Name != "mine" || answer.Version != "2.1" || answer.MaxMessageOctets != 1000 || !answer.HeaderOnly {
		t.Error(answer)
	}
	if !slices.Equal(answer.Capabilities, wanted) {
		t.Errorf("%v, not %v", answer.Capabilities, wanted)
	}
}

type both struct{ hook.Filter }

func (both) SelectRoute(context.Context, *hookv1.SelectRouteRequest) (hook.Route, error) {
	return hook.UsePool("bulk"), nil
}

func TestOneValueCanDoSeveralThings(t *testing.T) {
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{both{relayAll}}})
	if answer, err := hooktest.Ask(within(t), connection, nil, nil); err != nil || answer.GetRelay() == nil {
		t.Error(answer, err)
	}
	route, err := hookv1.NewHookServiceClient(connection).SelectRoute(within(t), &hookv1.SelectRouteRequest{})
	if err != nil || route.GetPool() != "bulk" {
		t.Error(route, err)
	}
}

func TestWhatCannotServeSaysWhy(t *testing.T) {
	route := hook.SelectRoute(func(context.Context, *hookv1.SelectRouteRequest) (hook.Route, error) { return hook.Route{}, nil })
	for name, server := range map[string]*hook.Server{
		"needs a handler":      {},
		"string is no handler": {Handlers: []hook.Handler{"x"}},
		"one filter":           {Handlers: []hook.Handler{hook.Filter(relayAll), hook.Filter(relayAll)}},
		"one choice of route":  {Handlers: []hook.Handler{route, route}},
	} {
		if err := server.Serve(t.Context(), "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := hook.Serve(t.Context(), "unix:/nowhere/at/all.sock", route); err == nil || !strings.Contains(err.Error(), "cannot listen on unix:/nowhere") {
		t.Error(err)
	}
	if err := (&hook.Server{Handlers: []hook.Handler{route}}).Serve(t.Context()); err == nil {
		t.Error("served nowhere")
	}
}

func TestWhatAHookDoesNotDoIsUnimplemented(t *testing.T) {
	filter := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(relayAll)}})
	_, err := observe(t, filter, events(1)).Recv()
	wantCode(t, err, codes.Unimplemented)
	_, err = hookv1.NewHookServiceClient(filter).SelectRoute(within(t), &hookv1.SelectRouteRequest{})
	wantCode(t, err, codes.Unimplemented)
	observer := hook.Observer(func(context.Context, hook.Batch) error { return nil })
	_, err = hooktest.Ask(within(t), hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{observer}}), nil, nil)
	wantCode(t, err, codes.Unimplemented)
}

// ----------------------------------------------------------------- filtering

func TestAFilterSeesTheWholeMessageAndItsVerdictComesBack(t *testing.T) {
	octets := make([]byte, megabytes) // NUL, bare newlines and all
	for i := range octets {
		octets[i] = byte(i * 7)
	}
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		got, err := m.Bytes()
		if !bytes.Equal(got, octets) || m.Envelope.GetTransactionId() != "T1" {
			return hook.Verdict{}, errors.New("not what was sent")
		}
		return hook.AddHeader(hook.Insert("X-Ok", "yes")).WithScore(1.5).WithTags("a").WithTags("b").WithNote("n"), err
	}
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(check)}})
	envelope := &hookv1.Envelope{TransactionId: "T1", MessageOctets: megabytes}
	answer, err := hooktest.Ask(within(t), connection, envelope, octets)
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetAddHeader().GetEdits()[0].GetInsert().GetValue() != "yes" || answer.Score != 1.5 ||
		!slices.Equal(answer.Tags, []string{"a", "b"}) || answer.Note != "n" {
		t.Error(answer)
	}
}

func TestAReplacementOfTenMegabytesComesBack(t *testing.T) {
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		octets, err := m.Bytes()
		return hook.Replace(octets), err
	}
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(check)}})
	client := hookv1.NewHookServiceClient(connection)
	stream, err := client.BeforeRelay(within(t), grpc.MaxCallRecvMsgSize(megabytes+1024))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Envelope{Envelope: &hookv1.Envelope{}}})
	for range megabytes / hooktest.ChunkOctets {
		chunk := bytes.Repeat([]byte("line of text..\r\n"), hooktest.ChunkOctets/16)
		_ = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Chunk{Chunk: chunk}})
	}
	answer, err := stream.CloseAndRecv()
	if err != nil || len(answer.GetReplace().GetMessage()) != megabytes {
		t.Fatal(len(answer.GetReplace().GetMessage()), err)
	}
}

func TestAnEarlyAnswerDoesNotWaitForTheMessage(t *testing.T) {
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		header, err := m.HeaderBytes()
		return hook.Reject(550, "", strings.TrimSpace(string(header))), err
	}
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(check)}})
	stream, err := hookv1.NewHookServiceClient(connection).BeforeRelay(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Envelope{Envelope: &hookv1.Envelope{}}})
	_ = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Chunk{Chunk: []byte("A: b\r\n\r\nno end")}})
	var answer hookv1.BeforeRelayResponse
	if err := stream.RecvMsg(&answer); err != nil || answer.GetReject().GetText() != "A: b" { // without half-close
		t.Error(&answer, err)
	}
	if answer.GetReject().GetEnhancedCode() != "5.7.1" {
		t.Error("no enhanced code was filled in")
	}
}

func TestAnAnswerFromTheEnvelopeLeavesTenMegabytesUnread(t *testing.T) {
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		return hook.Reject(451, "4.7.0", m.Envelope.GetMailFrom().GetAddress()), nil
	}
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(check)}})
	envelope := &hookv1.Envelope{MailFrom: &hookv1.Address{Address: "a@b"}}
	for range 5 {
		answer, err := hooktest.Ask(within(t), connection, envelope, make([]byte, megabytes))
		if err != nil || answer.GetReject().GetText() != "a@b" {
			t.Fatal(answer, err)
		}
	}
}

func TestAFailureTellsThePeerNothing(t *testing.T) {
	for name, check := range map[string]hook.Filter{
		"error":            func(context.Context, *hook.Message) (hook.Verdict, error) { return hook.Relay(), errors.New("secret") },
		"panic":            func(context.Context, *hook.Message) (hook.Verdict, error) { panic("secret") },
		"no verdict":       func(context.Context, *hook.Message) (hook.Verdict, error) { return hook.Verdict{}, nil },
		"invalid verdict":  func(context.Context, *hook.Message) (hook.Verdict, error) { return hook.Reject(250, "", "secret"), nil },
		"score on nothing": func(context.Context, *hook.Message) (hook.Verdict, error) { return hook.Verdict{}.WithScore(1), nil },
	} {
		t.Run(name, func(t *testing.T) {
			var log lockedBuffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			connection := hooktest.Dial(t, &hook.Server{Log: logger, Handlers: []hook.Handler{check}})
			_, err := hooktest.Ask(within(t), connection, &hookv1.Envelope{TransactionId: "T1"}, []byte("x"))
			wantCode(t, err, codes.Internal)
			if strings.Contains(err.Error(), "secret") {
				t.Error("the peer is told", err)
			}
			if !strings.Contains(log.String(), "transaction=T1") {
				t.Error("the log says nothing:", log.String())
			}
		})
	}
}

func TestAConversationOutOfOrderIsAnError(t *testing.T) {
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		_, err := m.Bytes()
		return hook.Relay(), err
	}
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(check)}})
	envelope := &hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Envelope{Envelope: &hookv1.Envelope{}}}
	chunk := &hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Chunk{Chunk: []byte("x")}}
	for _, sent := range [][]*hookv1.BeforeRelayRequest{{}, {chunk}, {{}}, {envelope, envelope}, {envelope, chunk, {}}} {
		stream, err := hookv1.NewHookServiceClient(connection).BeforeRelay(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, request := range sent {
			_ = stream.Send(request)
		}
		if answer, err := stream.CloseAndRecv(); status.Code(err) != codes.InvalidArgument && status.Code(err) != codes.Internal {
			t.Errorf("%v: %v %v", sent, answer, err)
		}
	}
}

func TestMoreThanTheHookSaidItTakesIsAFailure(t *testing.T) {
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		octets, err := io.ReadAll(m)
		if len(octets) > 1000 {
			t.Error("more than the limit was handed out")
		}
		return hook.Relay(), err
	}
	connection := hooktest.Dial(t, &hook.Server{MaxMessageOctets: 1000, Handlers: []hook.Handler{hook.Filter(check)}})
	if _, err := hooktest.Ask(within(t), connection, nil, make([]byte, 1000)); err != nil {
		t.Error(err)
	}
	_, err := hooktest.Ask(within(t), connection, nil, make([]byte, 1001))
	wantCode(t, err, codes.Internal)
}

func TestOnlySoManyMessagesAreLookedAtAtOnce(t *testing.T) {
	var now, most atomic.Int32
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		defer now.Add(-1)
		if count := now.Add(1); count > most.Load() {
			most.Store(count)
		}
		_, err := m.Bytes()
		time.Sleep(5 * time.Millisecond)
		return hook.Relay(), err
	}
	connection := hooktest.Dial(t, &hook.Server{Concurrency: 2, Handlers: []hook.Handler{hook.Filter(check)}})
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := hooktest.Ask(within(t), connection, nil, make([]byte, 100_000)); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if most.Load() != 2 {
		t.Errorf("%d at once", most.Load())
	}
}

func TestAFilterIsToldWhenTheClientHasLeft(t *testing.T) {
	ended := make(chan error, 1)
	check := func(_ context.Context, m *hook.Message) (hook.Verdict, error) {
		_, err := m.Bytes() // its end never comes
		ended <- err
		return hook.Verdict{}, err
	}
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(check)}})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := hookv1.NewHookServiceClient(connection).BeforeRelay(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Envelope{Envelope: &hookv1.Envelope{}}})
	time.AfterFunc(50*time.Millisecond, cancel)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a cut message looked whole")
		}
	case <-within(t).Done():
		t.Error("the filter still waits")
	}
}

// ----------------------------------------------------------------- observing

func TestFiltersAnswerBesideHangingObserversOnManyStreams(t *testing.T) {
	open := make(chan struct{})
	hanging := hook.Observer(func(context.Context, hook.Batch) error { <-open; return nil })
	connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hanging, hook.Filter(relayAll)}})
	for range 64 {
		observe(t, connection, events(1))
	}
	for range 50 {
		if _, err := hooktest.Ask(within(t), connection, nil, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
	}
	close(open)
}

func TestABatchIsAcknowledgedAfterItsHandlerReturned(t *testing.T) {
	inside, open := make(chan hook.Batch, 1), make(chan struct{})
	store := hook.Observer(func(_ context.Context, batch hook.Batch) error {
		inside <- batch
		<-open
		return nil
	})
	stream := observe(t, hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{store}}), events(1, 2, 3))
	if batch := <-inside; len(batch.Events) != 3 || batch.Source.GetEpoch() != "E1" {
		t.Error(batch)
	}
	send(t, stream, &hookv1.ObserveRequest{}) // a heartbeat while the batch is in hand
	wantAcks(t, stream, 0)
	close(open)
	wantAcks(t, stream, 3)
	send(t, stream, &hookv1.ObserveRequest{})
	wantAcks(t, stream, 3)
}

func TestAFailingObserverEndsTheStreamWithoutAnAcknowledgement(t *testing.T) {
	for name, failure := range map[string]func() error{
		"error": func() error { return errors.New("disk full") },
		"panic": func() error { panic("disk full") },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			store := hook.Observer(func(context.Context, hook.Batch) error {
				if calls.Add(1) == 2 {
					return failure()
				}
				return nil
			})
			connection := hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{store}})
			stream := observe(t, connection, events(1))
			wantAcks(t, stream, 1)
			send(t, stream, events(2))
			_, err := stream.Recv()
			wantCode(t, err, codes.Internal)
			wantAcks(t, observe(t, connection, events(2, 3)), 3)
		})
	}
}

func TestHalfCloseAcknowledgesAllThatCameAndEndsCleanly(t *testing.T) {
	var stored []uint64
	store := hook.Observer(func(_ context.Context, batch hook.Batch) error {
		for _, event := range batch.Events {
			stored = append(stored, event.Sequence)
		}
		return nil
	})
	stream := observe(t, hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{store}}))
	go func() {
		for first := uint64(1); first < 10_000; first += 4 {
			_ = stream.Send(events(first, first+1, first+2, first+3))
		}
		_ = stream.CloseSend()
	}()
	last := uint64(0)
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = answer.AckedSequence
	}
	if last != 10_000 || len(stored) != 10_000 || !slices.IsSorted(stored) {
		t.Error(last, len(stored))
	}
}

// -------------------------------------------------------- serving and stopping

func TestARouteIsAPoolAnAddressARefusalOrLeftToTheRules(t *testing.T) {
	routes := map[string]hook.Route{
		"pool": hook.UsePool("bulk"), "ip": hook.UseSourceIP("192.0.2.1"), "refuse": hook.Refuse(451, "", "no"), "none": {},
		"invalid": hook.Refuse(250, "", "no"), "empty": hook.UsePool(""), "no address": hook.UseSourceIP(""),
	}
	choose := hook.SelectRoute(func(_ context.Context, request *hookv1.SelectRouteRequest) (hook.Route, error) {
		return routes[request.Sender], nil
	})
	client := hookv1.NewHookServiceClient(hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{choose}}))
	ask := func(sender string) (*hookv1.SelectRouteResponse, error) {
		return client.SelectRoute(within(t), &hookv1.SelectRouteRequest{Sender: sender})
	}
	if answer, err := ask("pool"); err != nil || answer.GetPool() != "bulk" {
		t.Error(answer, err)
	}
	if answer, err := ask("ip"); err != nil || answer.GetSourceIp() != "192.0.2.1" {
		t.Error(answer, err)
	}
	if answer, err := ask("refuse"); err != nil || answer.GetRefuse().GetEnhancedCode() != "4.7.1" {
		t.Error(answer, err)
	}
	if answer, err := ask("none"); err != nil || answer.GetRoute() != nil {
		t.Error(answer, err)
	}
	for _, sender := range []string{"invalid", "empty", "no address"} {
		_, err := ask(sender)
		wantCode(t, err, codes.Internal)
	}
}

func TestHealthIsThatOfTheServerAndOfTheService(t *testing.T) {
	client := grpc_health_v1.NewHealthClient(hooktest.Dial(t, &hook.Server{Handlers: []hook.Handler{hook.Filter(relayAll)}}))
	for _, service := range []string{"", "warp.hook.v1.HookService"} {
		answer, err := client.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Error(service, answer, err)
		}
	}
}

func TestStoppingEndsStreamsCleanlyAndLetsAFilterFinish(t *testing.T) {
	inside, open := make(chan struct{}), make(chan struct{})
	check := func(context.Context, *hook.Message) (hook.Verdict, error) {
		close(inside)
		<-open
		return hook.Reject(550, "", "finished"), nil
	}
	stored := hook.Observer(func(context.Context, hook.Batch) error { return nil })
	path := filepath.Join(t.TempDir(), "hook.sock")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	listening := make(chan string, 1)
	server := &hook.Server{
		Handlers:    []hook.Handler{hook.Filter(check), stored},
		OnListening: func(address string) { listening <- address },
	}
	go func() { ended <- server.Serve(ctx, "unix:"+path) }()
	connection, err := grpc.NewClient(<-listening, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Error(info, err)
	}
	stream := observe(t, connection, events(1))
	wantAcks(t, stream, 1)
	verdict := make(chan *hookv1.BeforeRelayResponse, 1)
	go func() {
		answer, err := hooktest.Ask(within(t), connection, nil, nil)
		if err != nil {
			t.Error(err)
		}
		verdict <- answer
	}()
	<-inside
	stop()
	if answer, err := stream.Recv(); err != io.EOF {
		t.Error("a stream ends cleanly:", answer, err)
	}
	close(open)
	if answer := <-verdict; answer.GetReject().GetText() != "finished" {
		t.Error(answer)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is still there", err)
	}
}

func TestAStaleSocketIsTakenOverAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hook.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	live := hook.Serve(t.Context(), "unix:"+path, hook.Filter(relayAll))
	if live == nil || !strings.Contains(live.Error(), "another server") {
		t.Error(live)
	}
	left.Close()
	ctx, stop := context.WithCancel(t.Context())
	server := &hook.Server{Handlers: []hook.Handler{hook.Filter(relayAll)}, OnListening: func(string) { stop() }}
	if err := server.Serve(ctx, "unix:"+path); err != nil {
		t.Error(err)
	}
}

func TestTLSAndAClientCertificate(t *testing.T) {
	folder := t.TempDir()
	ca, caKey := certificate(t, folder, "ca", nil, nil)
	certificate(t, folder, "server", ca, caKey)
	certificate(t, folder, "proxy", ca, caKey)
	file := func(name string) string { return filepath.Join(folder, name) }
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	pair, err := tls.LoadX509KeyPair(file("proxy.crt"), file("proxy.key"))
	if err != nil {
		t.Fatal(err)
	}
	anyone := &tls.Config{RootCAs: pool}
	proxy := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
	for _, one := range []struct {
		clientCA string
		client   *tls.Config
		code     codes.Code
	}{
		{"", anyone, codes.OK},
		{file("ca.crt"), proxy, codes.OK},
		{file("ca.crt"), anyone, codes.Unavailable},
		{"", nil, codes.Unavailable}, // in plaintext
	} {
		config, err := hook.TLSFiles(file("server.crt"), file("server.key"), one.clientCA)
		if err != nil {
			t.Fatal(err)
		}
		target := hooktest.Dial(t, &hook.Server{TLS: config, Handlers: []hook.Handler{hook.Filter(relayAll)}}).Target()
		transport := insecure.NewCredentials()
		if one.client != nil {
			transport = credentials.NewTLS(one.client)
		}
		connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport))
		if err != nil {
			t.Fatal(err)
		}
		_, err = hooktest.Ask(within(t), connection, nil, nil)
		wantCode(t, err, one.code)
		connection.Close()
	}
	if _, err := hook.TLSFiles(file("server.crt"), file("server.key"), file("server.key")); err == nil {
		t.Error("a key passed for a CA's certificate")
	}
}

// certificate writes NAME.crt and NAME.key, for 127.0.0.1; self-signed without an issuer.
func certificate(t *testing.T, folder, name string, issuer *x509.Certificate, issuerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         issuer == nil, BasicConstraintsValid: true,
	}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{
		".crt": {Type: "CERTIFICATE", Bytes: der},
		".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(folder, name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, key
}

// lockedBuffer is a log that is written and read by several goroutines.
type lockedBuffer struct {
	lock sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(octets []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.text.Write(octets)
}

func (b *lockedBuffer) String() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.text.String()
}

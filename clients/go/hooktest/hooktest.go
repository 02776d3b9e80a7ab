// Package hooktest is for the tests of a hook: what a verdict looks like to the proxy, and a server with a client of it.
package hooktest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"warp.example/hook"
	"warp.example/hook/hookv1"
)

// ChunkOctets is the size of the pieces that the proxy sends.
const ChunkOctets = 64 * 1024

// Response gives a verdict as the proxy gets it; one that it would refuse fails the test.
func Response(t testing.TB, verdict hook.Verdict) *hookv1.BeforeRelayResponse {
	t.Helper()
	response, err := verdict.Response()
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// Dial serves a hook on a free port of 127.0.0.1 until the test ends, and gives a connection to it.
func Dial(t testing.TB, server *hook.Server) *grpc.ClientConn {
	t.Helper()
	listening := make(chan string, 1)
	server.OnListening = func(address string) { listening <- address }
	if server.Grace == 0 {
		server.Grace = 2 * time.Second
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, "127.0.0.1:0") }()
	var address string
	select {
	case address = <-listening:
	case err := <-ended:
		t.Fatal(err)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		connection.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return connection
}

// Ask sends one message to a filter as the proxy does. nil stands for an empty envelope.
func Ask(ctx context.Context, connection grpc.ClientConnInterface, envelope *hookv1.Envelope, message []byte) (*hookv1.BeforeRelayResponse, error) {
	stream, err := hookv1.NewHookServiceClient(connection).BeforeRelay(ctx)
	if err != nil {
		return nil, err
	}
	if envelope == nil {
		envelope = &hookv1.Envelope{}
	}
	// A failing Send says that the answer is there already; it comes from CloseAndRecv.
	err = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Envelope{Envelope: envelope}})
	for rest := bytes.NewBuffer(message); err == nil && rest.Len() > 0; {
		err = stream.Send(&hookv1.BeforeRelayRequest{Part: &hookv1.BeforeRelayRequest_Chunk{Chunk: rest.Next(ChunkOctets)}})
	}
	return stream.CloseAndRecv()
}

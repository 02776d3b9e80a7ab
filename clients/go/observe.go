package hook

// One Observe stream: batches are handled one after the other, while reading goes on so that heartbeats are answered.
//
// An acknowledgement says that everything up to that sequence is stored; so it is sent after the handlers have returned,
// and a heartbeat during a slow one is answered with the sequence before it. What is read ahead is bounded by what the
// proxy may have unacknowledged in flight (8,192 events or 8 MiB): past it we stop reading. A proxy that hears nothing for
// 45 s takes us for dead, and one that waits for acknowledgements sends no heartbeat: so the last one is repeated.

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"warp.example/hook/hookv1"
)

const (
	readAheadEvents = 8192
	readAheadOctets = 9 << 20
)

// repeatAfter is a variable for the tests.
var repeatAfter = 15 * time.Second

type observeStream struct {
	stream hookv1.HookService_ObserveServer
	store  func(context.Context, Batch) error

	sending sync.Mutex
	acked   uint64 // under sending

	lock          sync.Mutex
	changed       *sync.Cond
	pending       []*hookv1.ObserveRequest
	pendingEvents int
	pendingOctets int
	readEnd       error // io.EOF: half-close; else what Recv gave
	stopped       bool
}

// Observe runs one stream until the proxy half-closes, the server stops, or something fails.
func (s *service) Observe(stream hookv1.HookService_ObserveServer) error {
	if len(s.observers) == 0 {
		return status.Errorf(codes.Unimplemented, "%s observes nothing", s.description.Name)
	}
	o := &observeStream{stream: stream, store: s.store}
	o.changed = sync.NewCond(&o.lock)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-s.stopping:
			o.stop()
		case <-ended:
		}
	}()
	go o.read()
	defer o.stop() // so that a reader that waits for room goes too
	if err := o.work(); err != nil {
		return s.failed(stream.Context(), err, "the observer failed; the hook's log says why")
	}
	return nil
}

func (o *observeStream) stop() {
	o.lock.Lock()
	defer o.lock.Unlock()
	o.stopped = true
	o.pending = nil
	o.changed.Broadcast()
}

func (o *observeStream) read() {
	for {
		request, err := o.stream.Recv()
		if err == nil && len(request.Events) == 0 {
			err = o.acknowledge(0)
			if err == nil {
				continue
			}
		}
		o.lock.Lock()
		for err == nil && !o.stopped && !o.hasRoom() {
			o.changed.Wait()
		}
		if err != nil || o.stopped {
			o.readEnd = err
			o.stopped = o.stopped || err != io.EOF
			o.changed.Broadcast()
			o.lock.Unlock()
			return
		}
		o.pending = append(o.pending, request)
		o.pendingEvents += len(request.Events)
		o.pendingOctets += proto.Size(request)
		o.changed.Broadcast()
		o.lock.Unlock()
	}
}

func (o *observeStream) hasRoom() bool {
	return o.pendingEvents == 0 || (o.pendingEvents < readAheadEvents && o.pendingOctets < readAheadOctets)
}

// next gives the batch to store, or nil at the end of the stream.
func (o *observeStream) next() (*hookv1.ObserveRequest, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	for len(o.pending) == 0 && !o.stopped && o.readEnd == nil {
		o.changed.Wait()
	}
	if len(o.pending) > 0 && !o.stopped {
		request := o.pending[0]
		o.pending = o.pending[1:]
		return request, nil
	}
	if o.readEnd != nil && o.readEnd != io.EOF {
		return nil, o.readEnd
	}
	return nil, nil
}

func (o *observeStream) work() error {
	for {
		request, err := o.next()
		if request == nil || err != nil {
			return err
		}
		if err := o.patiently(Batch{Source: request.Source, Events: request.Events}); err != nil {
			return err
		}
		highest := uint64(0)
		for _, event := range request.Events {
			highest = max(highest, event.GetSequence())
		}
		if err := o.acknowledge(highest); err != nil {
			return err
		}
		o.lock.Lock()
		o.pendingEvents -= len(request.Events)
		o.pendingOctets -= proto.Size(request)
		o.changed.Broadcast()
		o.lock.Unlock()
	}
}

// patiently stores a batch, repeating the last acknowledgement while that takes long.
func (o *observeStream) patiently(batch Batch) error {
	done := make(chan error, 1)
	go func() { done <- o.store(o.stream.Context(), batch) }()
	repeat := time.NewTicker(repeatAfter)
	defer repeat.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-repeat.C:
			if err := o.acknowledge(0); err != nil {
				<-done // the handler has the stream's context, which is over
				return err
			}
		}
	}
}

// acknowledge says what is stored: up to sequence, or as before.
func (o *observeStream) acknowledge(sequence uint64) error {
	o.sending.Lock()
	defer o.sending.Unlock()
	o.acked = max(o.acked, sequence)
	return o.stream.Send(&hookv1.ObserveResponse{AckedSequence: o.acked})
}

package hook

// The four calls of HookService, made from handlers. An error or a panic ends its call with INTERNAL and no details: the
// reason is in our log, not in the proxy's.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"warp.example/hook/hookv1"
)

type service struct {
	hookv1.UnimplementedHookServiceServer
	description *hookv1.DescribeResponse
	filter      MessageFilter
	selector    RouteSelector
	observers   []EventObserver
	places      chan struct{} // one for each message that is looked at
	stopping    chan struct{} // closed: Observe streams end after the batch in hand
	log         *slog.Logger
}

// newService sorts handlers by what they implement.
func newService(s *Server) (*service, error) {
	made := &service{
		description: &hookv1.DescribeResponse{
			Name:             s.Name,
			Version:          s.Version,
			MaxMessageOctets: s.MaxMessageOctets,
			HeaderOnly:       s.HeaderOnly,
		},
		places:   make(chan struct{}, s.Concurrency),
		stopping: make(chan struct{}),
		log:      s.Log,
	}
	for _, handler := range s.Handlers {
		if err := made.register(handler); err != nil {
			return nil, err
		}
	}
	if len(made.description.Capabilities) == 0 {
		return nil, errors.New("hook: a server needs a handler")
	}
	return made, nil
}

func (s *service) register(handler Handler) error {
	known := false
	if filter, ok := handler.(MessageFilter); ok {
		if s.filter != nil {
			return errors.New("hook: one filter for each server: the chain is made in the proxy, of several hooks")
		}
		s.filter, known = filter, true
		s.name(hookv1.Capability_CAPABILITY_BEFORE_RELAY)
	}
	if observer, ok := handler.(EventObserver); ok {
		s.observers, known = append(s.observers, observer), true
		s.name(wanted(observer)...)
	}
	if selector, ok := handler.(RouteSelector); ok {
		if s.selector != nil {
			return errors.New("hook: one choice of route for each server")
		}
		s.selector, known = selector, true
		s.name(hookv1.Capability_CAPABILITY_SELECT_ROUTE)
	}
	if !known {
		return fmt.Errorf("hook: %T is no handler: it has none of FilterMessage, ObserveEvents and SelectRoute", handler)
	}
	return nil
}

func wanted(observer EventObserver) []hookv1.Capability {
	if chooser, ok := observer.(EventChooser); ok {
		return chooser.Events()
	}
	return []hookv1.Capability{
		hookv1.Capability_CAPABILITY_AFTER_COMM,
		hookv1.Capability_CAPABILITY_AFTER_TRANSACTION,
		hookv1.Capability_CAPABILITY_AFTER_CONN,
	}
}

func (s *service) name(capabilities ...hookv1.Capability) {
	for _, capability := range capabilities {
		if !slices.Contains(s.description.Capabilities, capability) {
			s.description.Capabilities = append(s.description.Capabilities, capability)
		}
	}
}

// Describe answers at each connect of a proxy.
func (s *service) Describe(_ context.Context, request *hookv1.DescribeRequest) (*hookv1.DescribeResponse, error) {
	s.log.Info("a proxy connected", "warp", request.GetWarpVersion(), "proxy", request.GetSource().GetProxy(), "as", request.GetHookName())
	return s.description, nil
}

// BeforeRelay reads no more of the message than the filter asks for, and answers when that returns.
func (s *service) BeforeRelay(stream hookv1.HookService_BeforeRelayServer) error {
	if s.filter == nil {
		return status.Errorf(codes.Unimplemented, "%s is no filter", s.description.Name)
	}
	ctx := stream.Context()
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	first, err := stream.Recv()
	if err != nil && err != io.EOF {
		return err
	}
	envelope := first.GetEnvelope()
	if envelope == nil {
		return status.Error(codes.InvalidArgument, "the first part of a message is its envelope")
	}
	message := newMessage(envelope, s.description.MaxMessageOctets, func() ([]byte, error) { return nextChunk(stream) })
	response, err := guarded(func() (*hookv1.BeforeRelayResponse, error) {
		verdict, err := s.filter.FilterMessage(ctx, message)
		if err != nil {
			return nil, err
		}
		return verdict.Response()
	})
	if err != nil {
		return s.failed(ctx, err, "the filter failed; the hook's log says why", "transaction", envelope.GetTransactionId())
	}
	return stream.SendAndClose(response)
}

func nextChunk(stream hookv1.HookService_BeforeRelayServer) ([]byte, error) {
	request, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	chunk, ok := request.GetPart().(*hookv1.BeforeRelayRequest_Chunk)
	if !ok {
		return nil, errors.New("hook: after the envelope come chunks of the message, and nothing else")
	}
	return chunk.Chunk, nil
}

// SelectRoute asks the handler; the zero Route is an answer too.
func (s *service) SelectRoute(ctx context.Context, request *hookv1.SelectRouteRequest) (*hookv1.SelectRouteResponse, error) {
	if s.selector == nil {
		return nil, status.Errorf(codes.Unimplemented, "%s chooses no routes", s.description.Name)
	}
	response, err := guarded(func() (*hookv1.SelectRouteResponse, error) {
		route, err := s.selector.SelectRoute(ctx, request)
		if err != nil {
			return nil, err
		}
		return route.Response()
	})
	if err != nil {
		return nil, s.failed(ctx, err, "the choice of route failed; the hook's log says why", "transaction", request.GetTransactionId())
	}
	return response, nil
}

// store gives a batch to each observer.
func (s *service) store(ctx context.Context, batch Batch) error {
	for _, observer := range s.observers {
		if _, err := guarded(func() (struct{}, error) { return struct{}{}, observer.ObserveEvents(ctx, batch) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) failed(ctx context.Context, err error, told string, attributes ...any) error {
	if ctx.Err() != nil { // the proxy no longer waits: that is not ours to report as a failure
		return status.FromContextError(ctx.Err()).Err()
	}
	s.log.Error(told, append(attributes, "error", err)...)
	return status.Error(codes.Internal, told)
}

// guarded makes an error of a panic.
func guarded[T any](call func() (T, error)) (result T, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return call()
}

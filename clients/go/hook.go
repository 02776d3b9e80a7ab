// Package hook makes a gRPC server of the functions of a hook for warp, the outbound transparent SMTP proxy.
//
// A filter is one function:
//
//	check := hook.Filter(func(ctx context.Context, m *hook.Message) (hook.Verdict, error) {
//		return hook.AddHeader(hook.Insert("X-Checked", "yes")), nil
//	})
//	err := hook.Serve(ctx, "127.0.0.1:7001", check)
//
// A handler is a value with the method of what it does: [MessageFilter], [EventObserver], [RouteSelector], or several of
// them; [Filter], [Observer] and [SelectRoute] make one of a function. An error (or a panic) is a failure of the hook: a
// filter's message is treated by the proxy's on_failure, an observer's batch is not acknowledged and comes again.
//
// What the fields of an envelope or an event mean stands in the protocol, proto/warp/hook/v1/hook.proto.
package hook

import (
	"context"

	"warp.example/hook/hookv1"
)

// Handler is a value that implements MessageFilter, EventObserver or RouteSelector, or several of them. A Server refuses
// one that implements none.
type Handler any

// MessageFilter gives the verdict on a message. It may answer before it has read the message, or without reading it. Its
// context ends with the proxy's deadline, or when the client has left.
type MessageFilter interface {
	FilterMessage(ctx context.Context, message *Message) (Verdict, error)
}

// EventObserver stores a batch of events; its return acknowledges them. The same event may come twice, after a reconnect:
// its id says that it is the same. Batches of one stream come one after the other, those of several workers at once.
type EventObserver interface {
	ObserveEvents(ctx context.Context, batch Batch) error
}

// EventChooser is for an EventObserver that does not want all kinds of events. Gaps and notices always come.
type EventChooser interface {
	// Events gives the capabilities to name in Describe: those that begin with AFTER_.
	Events() []hookv1.Capability
}

// RouteSelector chooses where a transaction leaves from, within 200 ms. The zero Route leaves it to the proxy's rules.
type RouteSelector interface {
	SelectRoute(ctx context.Context, request *hookv1.SelectRouteRequest) (Route, error)
}

// Filter is a MessageFilter made of a function.
type Filter func(ctx context.Context, message *Message) (Verdict, error)

// FilterMessage calls the function.
func (f Filter) FilterMessage(ctx context.Context, message *Message) (Verdict, error) {
	return f(ctx, message)
}

// Observer is an EventObserver made of a function. It is given all kinds of events.
type Observer func(ctx context.Context, batch Batch) error

// ObserveEvents calls the function.
func (o Observer) ObserveEvents(ctx context.Context, batch Batch) error { return o(ctx, batch) }

// SelectRoute is a RouteSelector made of a function.
type SelectRoute func(ctx context.Context, request *hookv1.SelectRouteRequest) (Route, error)

// SelectRoute calls the function.
func (s SelectRoute) SelectRoute(ctx context.Context, request *hookv1.SelectRouteRequest) (Route, error) {
	return s(ctx, request)
}

// TransactionObserver is an EventObserver of finished transactions only.
type TransactionObserver func(ctx context.Context, batch Batch) error

// ObserveEvents calls the function.
func (o TransactionObserver) ObserveEvents(ctx context.Context, batch Batch) error {
	return o(ctx, batch)
}

// Events names AFTER_TRANSACTION.
func (o TransactionObserver) Events() []hookv1.Capability {
	return []hookv1.Capability{hookv1.Capability_CAPABILITY_AFTER_TRANSACTION}
}

// Batch is events in the order in which they happened, of one proxy's worker.
type Batch struct {
	Source *hookv1.Source
	Events []*hookv1.Event
}

// Serve serves the handlers on an address (unix:/path or host:port) until ctx is done, then stops gracefully. For
// settings, see Server.
func Serve(ctx context.Context, address string, handlers ...Handler) error {
	return (&Server{Handlers: handlers}).Serve(ctx, address)
}

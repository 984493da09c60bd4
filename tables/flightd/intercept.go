package flightd

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

const handshakeMethod = "/arrow.flight.protocol.FlightService/Handshake"

// callHeader is a header with an ID that the client chooses. With this ID, the action partd.cancel can cancel the call
// even before the call returns anything.
const (
	callHeader  = "partd-call"
	minIDLength = 16 // bytes, so that an id cannot be guessed
)

// checkProtocol rejects a call if its client speaks a later version of the protocol. Clients from other projects send
// no version.
func checkProtocol(ctx context.Context) error {
	for _, version := range metadata.ValueFromIncomingContext(ctx, operations.ProtocolHeader) {
		if n, err := strconv.Atoi(version); err != nil || n > operations.ProtocolVersion {
			return kinds.Unsupported.Errorf("the client speaks version %.20s of the protocol, but the server version %d: upgrade the server", version, operations.ProtocolVersion)
		}
	}
	return nil
}

// interceptor authenticates and runs clients' calls. It ends calls that stall or take too long.
type interceptor struct {
	core    *serving.Core
	opts    *serving.Options
	access  *access
	memory  *budget
	running sync.WaitGroup // running calls, including canceled ones that have not returned yet
}

// beginCall authenticates a call. It returns the call's context, and a function that ends the call.
func (i *interceptor) beginCall(ctx context.Context, method string) (_ context.Context, _ context.CancelCauseFunc, err error) {
	var c serving.Caller
	if method != handshakeMethod {
		c, err = i.access.identify(ctx)
	}
	if err == nil {
		err = checkProtocol(ctx)
	}
	ctx, end := i.core.NewCall(ctx, &c, addressOf(ctx))
	if id := serving.RequestID(ctx); id != "" {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-request-id", id)) // fails only outside of a call
	}
	if err != nil {
		end(err)
		return ctx, nil, err
	}
	unregister := func() {}
	if id := metadata.ValueFromIncomingContext(ctx, callHeader); len(id) == 1 && len(id[0]) >= minIDLength {
		ctx, unregister = i.core.Cancellable(ctx, id[0])
	}
	return ctx, func(err error) { end(err); unregister() }, nil
}

func (i *interceptor) recoverPanic(method string, err *error) {
	if p := recover(); p != nil {
		i.opts.Logger.Error("a call panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = kinds.Internal.Errorf("the call failed because of a fault in the server; see the server's log")
	}
}

// interceptStream runs a call in a goroutine. If the client stalls or the call takes too long, interceptStream
// returns early. gRPC then makes the goroutine's pending reads and writes fail.
func (i *interceptor) interceptStream(srv any, st grpc.ServerStream, method *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	ctx := st.Context()
	defer func(start time.Time) {
		i.core.RecordEnd(ctx, method.FullMethod, start, err)
		err = publicError(i.core, st, err)
	}(time.Now())
	transport, err := transportOf(ctx)
	if err != nil {
		return err
	}
	host := serving.HostOf(addressOf(ctx))
	if err := i.core.Conns.CheckCalls(host); err != nil {
		return err
	}
	ctx, cancel, err := i.beginCall(ctx, method.FullMethod)
	if err != nil {
		return err
	}
	c := &call{host: host, cancel: cancel}
	c.ctx = context.WithValue(ctx, callKey{}, c)
	w := &watchedStream{st, requests{c, transport, method.IsClientStream, i.memory, i.opts}, i.core}
	done := make(chan error, 1)
	i.running.Go(func() {
		var err error
		defer func() { done <- err; cancel(nil) }()
		defer i.memory.remove(c)
		defer i.recoverPanic(method.FullMethod, &err)
		err = handler(srv, w)
	})
	select {
	case err := <-done:
		return serving.WithCause(ctx, err)
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return serving.WithCause(ctx, err)
	default:
		return serving.WithCause(ctx, status.FromContextError(ctx.Err()).Err())
	}
}

// watchedStream is a stream with a time limit for each message.
type watchedStream struct {
	grpc.ServerStream
	requests
	core *serving.Core // counts the bytes of rows
}

func (w *watchedStream) Context() context.Context { return w.ctx }

// RecvMsg waits for memory before it receives rows, and cancels the call if the client sends too slowly.
func (w *watchedStream) RecvMsg(m any) error {
	data, ok := m.(*flight.FlightData)
	if ok {
		if err := w.memory.admit(w.call); err != nil {
			return err
		}
	}
	size, timeout := w.messageLimits(m)
	stallTimer := time.AfterFunc(timeout, func() { w.cancel(serving.ErrSending) })
	err := w.receive(m, size)
	stallTimer.Stop()
	if ok && err == nil {
		w.memory.setProcessing(w.call, int64(len(data.DataBody)))
		w.core.Received.Add(float64(len(data.DataBody)))
	}
	return err
}

// SendMsg cancels the call if the client receives too slowly.
func (w *watchedStream) SendMsg(m any) error {
	stallTimer := time.AfterFunc(w.opts.IdleTimeout, func() {
		w.cancel(serving.ErrReceiving)
		serving.CloseConnection(w.ctx) // otherwise, the call's unsent data would stay in memory
	})
	defer stallTimer.Stop()
	err := serving.Sending(w.ctx, func() error { return w.ServerStream.SendMsg(&answer{m, w.call}) })
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *flight.FlightData:
		w.core.Sent.Add(float64(len(m.DataBody)))
	case *rowsMessage:
		w.core.Sent.Add(float64(m.bodySize))
	}
	return nil
}

// call is a client's running call, with the bytes that budget and unsentLimit count for it.
type call struct {
	host   string
	ctx    context.Context // a field, because ServerStream's methods take no context
	cancel context.CancelCauseFunc

	// guarded by budget.mu
	wasListed    bool  // whether the call has been added to budget.calls; it is added at most once
	arriving     int64 // bytes of the message that is arriving
	processing   int64 // bytes of the message that is being processed
	requestBytes int64 // the part of processing that is also counted in budget.requestBytes

	// guarded by unsentLimit.mu
	pending int64 // unsent bytes of answers
	closed  bool  // whether the connection was closed because of unsent answers
}

type callKey struct{}

// callOf returns the call in a context.
func callOf(ctx context.Context) *call {
	return ctx.Value(callKey{}).(*call) //nolint:forcetypeassert // every call's context contains it
}

func addressOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// minCharged is the size, in bytes, below which requests and answers do not count towards the memory limits.
const minCharged = 64 << 10

// newestOfHeaviestHost returns the newest call of the host with the most bytes. It ignores calls for which the function
// bytes returns a negative number.
func newestOfHeaviestHost(calls []*call, bytes func(*call) int64) (newest *call) {
	hostBytes := map[string]int64{}
	for _, c := range calls {
		hostBytes[c.host] += max(0, bytes(c))
	}
	for _, c := range calls {
		if bytes(c) >= 0 && (newest == nil || hostBytes[c.host] >= hostBytes[newest.host]) {
			newest = c
		}
	}
	return newest
}

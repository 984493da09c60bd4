package flightd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const handshakeMethod = "/arrow.flight.protocol.FlightService/Handshake"

// callHeader is a header with an id that the client chooses. The action partd.cancel can cancel the
// call by this id even before the call returns anything.
const (
	callHeader  = "partd-call"
	minIDLength = 16 // bytes, so that an id cannot be guessed
)

var (
	errTooLong   = errors.New("the call took longer than the server allows")
	errSending   = errors.New("the client sent nothing for too long")
	errReceiving = errors.New("the client received nothing for too long")
	errCrowded   = errors.New("too many clients are authenticating; try again later")
	errShare     = errors.New("the call was canceled in favor of other users: its user or its address had more calls running; run fewer at a time, or try again later")
	errMemory    = errors.New("the server's memory for messages is full; try again later, or send smaller batches")
)

var codeByCause = map[error]codes.Code{
	errTooLong: codes.DeadlineExceeded, errSending: codes.DeadlineExceeded, errReceiving: codes.DeadlineExceeded,
	errMemory: codes.ResourceExhausted, errCrowded: codes.ResourceExhausted, errShare: codes.ResourceExhausted,
}

// beginCall authenticates a call. It returns the call's context, and a function that ends the call.
func (s *Server) beginCall(ctx context.Context, method string) (context.Context, context.CancelCauseFunc, error) {
	var c Caller
	if method != handshakeMethod {
		var err error
		if c, err = s.identify(ctx); err != nil {
			return ctx, nil, err
		}
	}
	ctx, end := s.newCallContext(ctx, &c, addressOf(ctx))
	unregister := func() {}
	if id := metadata.ValueFromIncomingContext(ctx, callHeader); len(id) == 1 && len(id[0]) >= minIDLength {
		ctx, unregister = s.sql.running.add(ctx, id[0])
	}
	return ctx, func(err error) { end(err); unregister() }, nil
}

// recordEnd counts a call that has ended. If the call failed, recordEnd logs it, as a warning if the server is at
// fault.
func (s *Server) recordEnd(ctx context.Context, method string, start time.Time, err error) {
	code := status.Code(err)
	method = path.Base(method)
	s.metrics.calls.WithLabelValues(method, code.String()).Inc()
	s.metrics.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
	log := s.opts.Logger.Debug
	if t, ok := err.(*shootsError); ok && t.serverFault || !ok && (code == codes.Internal || code == codes.Unknown) { //nolint:errorlint // a shootsError is never wrapped
		log = s.opts.Logger.Warn
	}
	if err != nil {
		c, _ := ctx.Value(callKey{}).(*call)
		log("a call failed", "method", method, "peer", cmp.Or(c, new(call)).conn, "code", code, "error", status.Convert(err).Message())
	}
}

func (s *Server) recoverPanic(method string, err *error) {
	if p := recover(); p != nil {
		s.opts.Logger.Error("a call panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the call failed because of a fault in the server; see the server's log")
	}
}

// interceptStream runs a call in a goroutine. If the client stalls or the call takes too long, interceptStream
// returns early. gRPC then makes the goroutine's pending reads and writes fail.
func (s *Server) interceptStream(srv any, st grpc.ServerStream, method *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	ctx := st.Context()
	defer func(start time.Time) { s.recordEnd(ctx, method.FullMethod, start, err) }(time.Now())
	in, err := transportOf(ctx)
	if err != nil {
		return err
	}
	host := hostOfAddress(addressOf(ctx))
	if s.conns.isCrowded(host) {
		return status.Errorf(codes.ResourceExhausted, "too many calls are running: one address may run %d, or fewer if others run many; try again later", maxHostCalls)
	}
	ctx, cancel, err := s.beginCall(ctx, method.FullMethod)
	if err != nil {
		return err
	}
	w := &watchedStream{ServerStream: st, s: s, in: in, multiMessage: method.IsClientStream, host: host, ctx: ctx, cancel: cancel}
	done := make(chan error, 1)
	s.running.Go(func() {
		var err error
		defer func() { done <- err; cancel(nil) }()
		defer s.memory.remove(w)
		defer s.recoverPanic(method.FullMethod, &err)
		err = handler(srv, w)
	})
	select {
	case err := <-done:
		return w.withCause(err)
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return w.withCause(err)
	default:
		return w.withCause(status.FromContextError(ctx.Err()).Err())
	}
}

// watchedStream is a stream with a time limit for each message.
type watchedStream struct {
	grpc.ServerStream
	s            *Server
	in           transportStream
	multiMessage bool // whether the client may send several messages
	host         string
	ctx          context.Context // a field, because ServerStream's methods take no context
	cancel       context.CancelCauseFunc
	isListed     bool  // whether the stream is in budget.calls
	processing   int64 // bytes of the message that is being processed
	requestBytes int64 // bytes of processing that count as a request without rows
	pending      int64 // unsent bytes of answers; guarded by answers.mu
	closed       bool  // whether the connection was closed because of unsent answers; guarded by answers.mu
	arriving     int64 // bytes of the message that is arriving
}

func (w *watchedStream) Context() context.Context { return w.ctx }

// If the server canceled the call, withCause replaces err with the reason.
func (w *watchedStream) withCause(err error) error {
	cause := context.Cause(w.ctx)
	if code, ok := codeByCause[cause]; ok && err != nil {
		return status.Error(code, cause.Error())
	}
	if cause == errCancelled && err != nil {
		return cause
	}
	return err
}

// RecvMsg waits for memory before it receives rows, and cancels the call if the client sends too slowly.
func (w *watchedStream) RecvMsg(m any) error {
	data, ok := m.(*flight.FlightData)
	if ok {
		if err := w.s.memory.admit(w); err != nil {
			return err
		}
	}
	size, timeout := w.messageLimits(m)
	stallTimer := time.AfterFunc(timeout, func() { w.cancel(errSending) })
	err := w.receive(m, size)
	stallTimer.Stop()
	if ok && err == nil {
		w.s.memory.setProcessing(w, int64(len(data.DataBody)))
		w.s.metrics.received.Add(float64(len(data.DataBody)))
	}
	return err
}

// SendMsg cancels the call if the client receives too slowly.
func (w *watchedStream) SendMsg(m any) error {
	stallTimer := time.AfterFunc(w.s.opts.IdleTimeout, func() {
		w.cancel(errReceiving)
		closeConnection(w.ctx) // otherwise, the call's unsent data would stay in memory
	})
	defer stallTimer.Stop()
	err := Sending(w.ctx, func() error { return w.ServerStream.SendMsg(&answer{m, w}) })
	if data, ok := m.(*flight.FlightData); ok && err == nil {
		w.s.metrics.sent.Add(float64(len(data.DataBody)))
	}
	return err
}

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

// callHeader has an id of a call's own, by which the action partd.cancel ends it: a
// client that is in the midst of a call cannot, or not before an answer comes.
const (
	callHeader = "partd-call"
	leastID    = 16 // bytes, so that nobody guesses it
)

var (
	errTooLong = errors.New("the call took longer than the server allows")
	errSending = errors.New("the client sent nothing for too long")
	errTaking  = errors.New("the client took nothing for too long")
	errCrowded = errors.New("too many clients ask for a token's check at once; try again")
	errShare   = errors.New("it was ended for others: its user, or its address, had more under way than they; run fewer at a time, or try again later")
	errMemory  = errors.New("the server's memory for messages is full; try again later, or send smaller batches")
)

// causes are the codes of what ends a call from within.
var causes = map[error]codes.Code{
	errTooLong: codes.DeadlineExceeded, errSending: codes.DeadlineExceeded, errTaking: codes.DeadlineExceeded,
	errMemory: codes.ResourceExhausted, errCrowded: codes.ResourceExhausted, errShare: codes.ResourceExhausted,
}

// begin is the context of a call that may be made, and what ends it.
func (s *Server) begin(ctx context.Context, method string) (context.Context, context.CancelCauseFunc, error) {
	var c Caller
	if method != handshakeMethod {
		var err error
		if c, err = s.identify(ctx); err != nil {
			return ctx, nil, err
		}
	}
	ctx, end := s.callOf(ctx, &c, addressOf(ctx))
	forget := func() {}
	if id := metadata.ValueFromIncomingContext(ctx, callHeader); len(id) == 1 && len(id[0]) >= leastID {
		ctx, forget = s.sql.running.add(ctx, id[0])
	}
	return ctx, func(err error) { end(err); forget() }, nil
}

// ended counts and logs a call. Only what is the server's own fault is a warning.
func (s *Server) ended(ctx context.Context, method string, began time.Time, err error) {
	code := status.Code(err)
	method = path.Base(method)
	s.metrics.calls.WithLabelValues(method, code.String()).Inc()
	s.metrics.seconds.WithLabelValues(method).Observe(time.Since(began).Seconds())
	log := s.opts.Logger.Debug
	if t, ok := err.(*toldError); ok && t.fault || !ok && (code == codes.Internal || code == codes.Unknown) { //nolint:errorlint // it is never wrapped
		log = s.opts.Logger.Warn
	}
	if err != nil {
		c, _ := ctx.Value(callKey{}).(*call)
		log("a call failed", "method", method, "peer", cmp.Or(c, new(call)).conn, "code", code, "error", status.Convert(err).Message())
	}
}

// recovered makes the panic of a call its error: others go on.
func (s *Server) recovered(method string, err *error) {
	if p := recover(); p != nil {
		s.opts.Logger.Error("a call panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the server failed at this call; its log says more")
	}
}

// stream runs a call beside a watch: one whose client stalls, or that takes too
// long, is given up, which makes what it waits for return.
func (s *Server) stream(srv any, st grpc.ServerStream, i *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	ctx := st.Context()
	defer func(began time.Time) { s.ended(ctx, i.FullMethod, began, err) }(time.Now())
	in, err := transportOf(ctx)
	if err != nil {
		return err
	}
	host := hostOfAddress(addressOf(ctx))
	if s.conns.crowded(host) {
		return status.Errorf(codes.ResourceExhausted, "too many calls are under way: %d from your address are the most, less where others have many; try again later", maxHostCalls)
	}
	ctx, cancel, err := s.begin(ctx, i.FullMethod)
	if err != nil {
		return err
	}
	w := &watched{ServerStream: st, s: s, in: in, more: i.IsClientStream, host: host, ctx: ctx, cancel: cancel}
	done := make(chan error, 1)
	s.running.Go(func() {
		var err error
		defer func() { done <- err; cancel(nil) }()
		defer s.memory.leave(w)
		defer s.recovered(i.FullMethod, &err)
		err = h(srv, w)
	})
	select {
	case err := <-done:
		return w.failure(err)
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return w.failure(err)
	default:
		return w.failure(status.FromContextError(ctx.Err()).Err())
	}
}

// watched is a stream whose every message has a time.
type watched struct {
	grpc.ServerStream
	s       *Server
	in      transportStream
	more    bool // messages than one may come
	host    string
	ctx     context.Context // of the call; ServerStream's methods have none
	cancel  context.CancelCauseFunc
	joined  bool  // the budget
	held    int64 // bytes of the message that is being worked on
	asked   int64 // of held, where it is no rows
	untaken int64 // bytes of answers; under the mu of answers, as the next
	cut     bool  // the connection, for what was not taken
	expects int64 // bytes of the message that is arriving
}

func (w *watched) Context() context.Context { return w.ctx }

// failure says why a call was given up, where it was.
func (w *watched) failure(err error) error {
	cause := context.Cause(w.ctx)
	if code, ok := causes[cause]; ok && err != nil {
		return status.Error(code, cause.Error())
	}
	if cause == errCancelled && err != nil {
		return cause
	}
	return err
}

func (w *watched) RecvMsg(m any) error {
	data, ok := m.(*flight.FlightData)
	if ok {
		if err := w.s.memory.admit(w); err != nil {
			return err
		}
	}
	size, within := w.limitOf(m)
	stalled := time.AfterFunc(within, func() { w.cancel(errSending) })
	err := w.receive(m, size)
	stalled.Stop()
	if ok && err == nil {
		w.s.memory.hold(w, int64(len(data.DataBody)))
		w.s.metrics.received.Add(float64(len(data.DataBody)))
	}
	return err
}

func (w *watched) SendMsg(m any) error {
	stalled := time.AfterFunc(w.s.opts.IdleTimeout, func() {
		w.cancel(errTaking)
		closeConnection(w.ctx) // what was written for it would stay in memory
	})
	defer stalled.Stop()
	err := Sending(w.ctx, func() error { return w.ServerStream.SendMsg(&answer{m, w}) })
	if data, ok := m.(*flight.FlightData); ok && err == nil {
		w.s.metrics.sent.Add(float64(len(data.DataBody)))
	}
	return err
}

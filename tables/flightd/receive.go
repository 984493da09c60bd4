package flightd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	gen "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// Bytes of the largest message, where that is not Options.MaxMessage.
const (
	maxRequest   = 1 << 20
	maxAction    = 2 << 20  // metadata and rules, of 1 MiB each, are in them
	maxHandshake = 64 << 10 // which comes before a token
)

// requestTime is how long a request that is one message may take to arrive.
const requestTime = 10 * time.Second

// maxHandshakes are under way at a time, of a host an eighth.
const maxHandshakes = 256

// costly is from which size on a request is counted at what it may decode to.
const (
	costly      = 64 << 10
	decodedSize = 16 // times its own
)

// authorizedFirst is the service with its unary methods as streams: gRPC reads the
// message of a unary method before it asks an interceptor, but runs that of a
// stream first. On the wire they are the same.
func authorizedFirst() *grpc.ServiceDesc {
	d := gen.FlightService_ServiceDesc
	d.Streams = slices.Clone(d.Streams)
	for _, m := range d.Methods {
		d.Streams = append(d.Streams, grpc.StreamDesc{
			StreamName: m.MethodName, ServerStreams: true,
			Handler: func(srv any, st grpc.ServerStream) error {
				reply, err := m.Handler(srv, st.Context(), st.RecvMsg, nil)
				if err != nil {
					return err
				}
				return st.SendMsg(reply)
			},
		})
	}
	d.Methods = nil
	return &d
}

// transportStream is what the streams of gRPC's transport have. Its own RecvMsg knows
// one limit for all methods, takes a message up to it, and inflates it.
type transportStream interface {
	RecvCompress() string
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// transportOf refuses compressed requests, whatever they are compressed with.
func transportOf(ctx context.Context) (transportStream, error) {
	st, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok {
		return nil, status.Error(codes.Internal, "gRPC's transport is not the one that this server was made for")
	}
	if c := st.RecvCompress(); c != "" && c != encoding.Identity {
		return nil, status.Errorf(codes.Unimplemented, "the request is compressed with %.20q: send it as it is; Arrow's own compression of batches is taken", c)
	}
	return st, nil
}

// limitOf is how large a message of a call may be, and how long it may take.
func (w *watched) limitOf(m any) (size int, within time.Duration) {
	o := &w.s.opts
	size, within = maxRequest, min(requestTime, o.IdleTimeout)
	switch m.(type) {
	case *flight.HandshakeRequest:
		size = maxHandshake
	case *flight.Action:
		size = maxAction
	case *flight.FlightData:
		if within = o.IdleTimeout; rightsFrom(w.ctx) == Admin {
			return o.MaxMessage, within
		} // who may read binds parameters
	}
	return min(size, o.MaxMessage), within
}

// receive reads a message that is no larger than size, and nothing behind it where
// the call has but one.
func (w *watched) receive(m any, size int) error {
	n, err := w.nextSize(size)
	if err != nil {
		return err
	}
	w.s.memory.expect(w, int64(n))
	data, err := w.in.Read(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return receiveError(err)
	}
	defer data.Free()
	if _, rows := m.(*flight.FlightData); !rows && n >= costly {
		w.s.memory.ask(w, decodedSize*int64(n))
	}
	if w.ctx.Err() != nil { // there is no memory for it
		return context.Cause(w.ctx)
	}
	err = encoding.GetCodecV2(proto.Name).Unmarshal(data, m)
	w.s.memory.expect(w, 0)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "the message is none of Flight's: %v", err)
	}
	if w.more {
		return nil
	}
	if _, err := w.nextSize(0); !errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "there is something behind the one message of this call")
	}
	return nil
}

// nextSize reads the header of a message. io.EOF says that there is none.
func (w *watched) nextSize(limit int) (int, error) {
	var header [5]byte
	if err := w.in.ReadMessageHeader(header[:]); err != nil {
		return 0, receiveError(err)
	}
	n := binary.BigEndian.Uint32(header[1:])
	switch {
	case header[0] != 0:
		return 0, status.Error(codes.Unimplemented, "the message is compressed: send it as it is")
	case int64(n) > int64(limit):
		return 0, status.Errorf(codes.ResourceExhausted, "the message has %d bytes, the limit is %d", n, limit)
	}
	return int(n), nil
}

// receiveError gives what the transport says a code. io.EOF stays what it is.
func receiveError(err error) error {
	switch _, coded := status.FromError(err); {
	case err == io.EOF || coded: //nolint:errorlint // so gRPC's own
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return status.Error(codes.InvalidArgument, "the message ends before its time")
	}
	return status.Error(codes.Unavailable, err.Error())
}

// flightReader returns a reader of a stream whose messages are checked as they come.
// What it takes beside them is from an allocator, whose panics it returns as errors. Its
// batches have to go through arrowsafe.Check.
func flightReader(st flight.DataStreamReader, m memory.Allocator) (r *flight.Reader, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("the description of the schema is damaged: %v", p)
		}
	}()
	return flight.NewRecordReader(st, ipc.WithAllocator(m))
}

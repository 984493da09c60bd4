package flightd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	gen "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// Limits on the size of one message, in bytes. Options.MaxMessage limits it further.
const (
	maxRequestSize   = 1 << 20
	maxActionSize    = 2 << 20  // metadata and rules may each have up to 1 MiB
	maxHandshakeSize = 64 << 10 // small, because the server has not checked a token yet
)

// decodedFactor is the assumed growth of a message without rows when it is decoded. If the message has at least
// minCharged bytes, decodedFactor times its size counts towards Options.Memory.
const decodedFactor = 16

// requestTimeout limits how long a request may take to arrive, for calls that take a single message.
const requestTimeout = 10 * time.Second

// maxHandshakes limits concurrent handshakes; one host may run an eighth of them.
const maxHandshakes = 256

// serviceDesc returns Flight's service with its unary methods declared as streams. For a unary method, gRPC would
// read the request before it runs the interceptor, which authorizes the call. Clients see no difference.
func serviceDesc() *grpc.ServiceDesc {
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

// transportStream contains the methods of gRPC's transport stream with which this package reads messages. It does not
// call gRPC's RecvMsg, which decompresses messages and has a single size limit for all methods.
type transportStream interface {
	RecvCompress() string
	ReadMessageHeader(header []byte) error
	Read(n int) (mem.BufferSlice, error)
}

// transportOf returns the call's transport stream, or an error if requests are compressed.
func transportOf(ctx context.Context) (transportStream, error) {
	st, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok {
		return nil, kinds.Internal.Errorf("the transport of this version of gRPC is not supported")
	}
	if c := st.RecvCompress(); c != "" && c != encoding.Identity {
		return nil, kinds.Unsupported.Errorf("the request is compressed with %.20q: send it uncompressed; Arrow's own compression of batches is supported", c)
	}
	return st, nil
}

// requests reads the messages that a call's client sends.
type requests struct {
	*call
	transport    transportStream
	multiMessage bool // whether the client may send several messages
	memory       *budget
	opts         *serving.Options
}

func (r *requests) messageLimits(m any) (size int, timeout time.Duration) {
	size, timeout = maxRequestSize, min(requestTimeout, r.opts.IdleTimeout)
	switch m.(type) {
	case *flight.HandshakeRequest:
		size = maxHandshakeSize
	case *flight.Action:
		size = maxActionSize
	case *flight.FlightData:
		// A client without admin rights can send only the parameters of statements, so the small limit suffices.
		timeout = r.opts.IdleTimeout
		if serving.RequireAdmin(r.ctx) == nil {
			return r.opts.MaxMessage, timeout
		}
	}
	return min(size, r.opts.MaxMessage), timeout
}

// receive reads a message of at most size bytes. For a call that takes only one message, it fails if more data follows.
func (r *requests) receive(m any, size int) error {
	n, err := r.nextSize(size)
	if err != nil {
		return err
	}
	r.memory.expect(r.call, int64(n))
	data, err := r.transport.Read(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return receiveError(err)
	}
	defer data.Free()
	if _, isFlightData := m.(*flight.FlightData); !isFlightData && n >= minCharged {
		r.memory.addRequest(r.call, decodedFactor*int64(n))
	}
	if r.ctx.Err() != nil { // addRequest may have canceled the call to free memory
		return context.Cause(r.ctx)
	}
	err = encoding.GetCodecV2(proto.Name).Unmarshal(data, m)
	r.memory.expect(r.call, 0)
	if err != nil {
		return kinds.BadRequest.Errorf("the message is not a valid Flight message: %v", err)
	}
	if r.multiMessage {
		return nil
	}
	if _, err := r.nextSize(0); !errors.Is(err, io.EOF) {
		return kinds.BadRequest.Errorf("more data follows the message, but this call takes only one message")
	}
	return nil
}

// nextSize reads the header of the next message and returns the message's size, which must not exceed limit. It returns
// io.EOF after the last message.
func (r *requests) nextSize(limit int) (int, error) {
	var header [5]byte
	if err := r.transport.ReadMessageHeader(header[:]); err != nil {
		return 0, receiveError(err)
	}
	n := binary.BigEndian.Uint32(header[1:])
	switch {
	case header[0] != 0:
		return 0, kinds.Unsupported.Errorf("the message is compressed: send it uncompressed")
	case int64(n) > int64(limit):
		return 0, kinds.Oversized("the message has", int64(n), int64(limit))
	}
	return int(n), nil
}

// receiveError adds a status code to a transport error, unless err is io.EOF or has a code already.
func receiveError(err error) error {
	_, hasCode := status.FromError(err)
	switch {
	case err == io.EOF || hasCode: //nolint:errorlint // gRPC's own code also compares this way
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return kinds.BadRequest.Errorf("the message is incomplete")
	}
	return kinds.Unavailable.Errorf("%v", err)
}

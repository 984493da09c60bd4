package flightd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // registers gzip, as the program's other libraries do
	"google.golang.org/grpc/metadata"

	"github.com/go-partd/partd/internal/testutil/must"
)

const service = "/arrow.flight.protocol.FlightService/"

// rawClient is a client that can send arbitrary HTTP/2 frames, including invalid ones.
type rawClient struct {
	net.Conn
	framer   *http2.Framer
	next     uint32 // id of the next stream
	isClosed bool   // the server closed the connection
}

// dialFrom connects from a loopback address, which the server treats as a separate host.
func dialFrom(t *testing.T, host, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: 10 * time.Second}
	conn := must.Get(d.Dial("tcp", address))(t)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dialRaw returns a client that connects from a loopback address.
func dialRaw(t *testing.T, host, address string) *rawClient {
	t.Helper()
	return newRawClient(dialFrom(t, host, address))
}

// newRawClient returns a client on a connection, and sends the first frames of HTTP/2.
func newRawClient(conn net.Conn) *rawClient {
	c := &rawClient{Conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	_, _ = io.WriteString(conn, http2.ClientPreface) // fails if the server closed the connection in favor of another one
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = c.framer.WriteSettings()
	return c
}

// begin begins a call with the headers that gRPC requires and with additional ones.
func (c *rawClient) begin(method string, headers ...string) (stream uint32, err error) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	fields := append([]string{":method", "POST", ":scheme", "http", ":path", service + method, ":authority", "localhost", "content-type", "application/grpc", "te", "trailers"}, headers...)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	stream = c.next
	c.next += 2
	first := block.Next(16 << 10)
	err = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndHeaders: block.Len() == 0})
	for err == nil && block.Len() > 0 {
		part := block.Next(16 << 10)
		err = c.framer.WriteContinuation(stream, block.Len() == 0, part)
	}
	return stream, err
}

// claim sends the header of a message, which claims size bytes.
func (c *rawClient) claim(stream, size uint32) error {
	return c.framer.WriteData(stream, false, binary.BigEndian.AppendUint32([]byte{0}, size))
}

// status returns the status code with which the server ends a stream, or resetCode if the server resets it.
func (c *rawClient) status(t *testing.T, stream uint32) codes.Code {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		f := must.Get(c.framer.ReadFrame())(t)
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return resetCode
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream || !f.StreamEnded() {
				continue
			}
			for _, h := range f.Fields {
				if n, err := strconv.Atoi(h.Value); h.Name == "grpc-status" && err == nil {
					return codes.Code(n)
				}
			}
		}
	}
}

const resetCode = codes.Code(1000)

// sendZeros sends zeros as fast as the server's windows allow, until the server ends the stream or the time limit has
// passed. It returns the number of bytes sent.
func (c *rawClient) sendZeros(stream uint32, timeout time.Duration) (sent int) {
	var window, connWindow atomic.Int64
	window.Store(1 << 16)
	connWindow.Store(1 << 16)
	streamEnded := make(chan struct{})
	_ = c.SetDeadline(time.Now().Add(timeout))
	go func() {
		defer close(streamEnded)
		for {
			f, err := c.framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if n, ok := f.Value(http2.SettingInitialWindowSize); ok {
					window.Add(int64(n) - 1<<16)
				}
			case *http2.WindowUpdateFrame:
				if f.StreamID == 0 {
					connWindow.Add(int64(f.Increment))
				} else {
					window.Add(int64(f.Increment))
				}
			case *http2.RSTStreamFrame:
				return
			case *http2.MetaHeadersFrame:
				if f.StreamEnded() {
					return
				}
			}
		}
	}()
	part := make([]byte, 16<<10)
	for {
		select {
		case <-streamEnded:
			return sent
		default:
		}
		if window.Load() < int64(len(part)) || connWindow.Load() < int64(len(part)) {
			time.Sleep(time.Millisecond)
			continue
		}
		if c.framer.WriteData(stream, false, part) != nil {
			<-streamEnded
			return sent
		}
		window.Add(int64(-len(part)))
		connWindow.Add(int64(-len(part)))
		sent += len(part)
	}
}

// clientFrom returns a regular client that connects from an address.
func clientFrom(t *testing.T, host, address string) flight.Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	c := must.Get(flight.NewClientWithMiddleware("passthrough:///"+address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return d.DialContext(ctx, "tcp", a) })))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// withToken returns a context for calls with a new token, and the token.
func withToken(t *testing.T, secret []byte, r Rights) (context.Context, string) {
	t.Helper()
	token := must.Get(NewToken(secret, r, t.Name(), time.Hour))(t)
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), token
}

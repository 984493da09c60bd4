// Package flightclient is a client for a table server (partd-tables serve). Its methods correspond to those of package
// tables, which works without a server. Rows are streamed in both directions, in bounded memory.
package flightclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// DefaultPort is the port used if a URL has none.
const DefaultPort = "8081"

// maxMessage limits the size of a received message, in bytes. The server's messages are far smaller, unless a single
// row is large.
const maxMessage = 256 << 20

// Options configures Dial. Nil and the zero value mean the defaults.
type Options struct {
	Token string         // "" means no token
	CAs   *x509.CertPool // authorities that may sign the server's certificate; nil means the system's
	// Insecure allows sending the token to another host without TLS. Anyone on the network path can then read it.
	Insecure bool
}

// Client is a connection to a server. It reconnects as needed and is safe for concurrent use.
//
// Like the errors of a [tables.Store], a Client's errors wrap tables.ErrNotFound, ErrExists, ErrConflict or
// errors.ErrUnsupported. If the connection is lost after a change was sent, the error wraps partd.ErrUnknownOutcome;
// only a put or a statement with an ID is then safe to repeat.
type Client struct {
	url    string
	flight flight.Client
}

// keepAlive makes calls fail if the server does not answer pings, for example because the network silently loses all
// packets. Servers must accept such frequent pings; partd-tables serve does.
var keepAlive = keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}

// Dial returns a client of the server at grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH. The client
// connects at its first call.
func Dial(server string, o *Options) (*Client, error) {
	o = cmp.Or(o, new(Options))
	u, err := url.Parse(server)
	isSocket := err == nil && u.Scheme == "grpc+unix"
	if err != nil || (u.Host == "") != isSocket || (u.Path != "") != isSocket || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("flightclient: %q is not a server URL: use grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH", server)
	}
	target := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), DefaultPort))
	var creds credentials.TransportCredentials
	switch u.Scheme {
	case "grpc+tls":
		creds = credentials.NewTLS(&tls.Config{RootCAs: o.CAs, MinVersion: tls.VersionTLS12})
	case "grpc+unix": // a socket on this machine needs no encryption
		target = (&url.URL{Scheme: "unix", Path: u.Path}).String()
		creds = insecure.NewCredentials()
	case "grpc", "grpc+tcp":
		if ip := net.ParseIP(u.Hostname()); o.Token != "" && !o.Insecure && u.Hostname() != "localhost" && !ip.IsLoopback() {
			return nil, fmt.Errorf("flightclient: %s: without TLS, others on the network could read the token: use grpc+tls://, or set Options.Insecure", server)
		}
		creds = insecure.NewCredentials()
	default:
		return nil, fmt.Errorf("flightclient: %q: unknown scheme %q: use grpc, grpc+tls or grpc+unix", server, u.Scheme)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithPerRPCCredentials(callHeaders(o.Token)), grpc.WithKeepaliveParams(keepAlive), grpc.WithStreamInterceptor(openStream),
	}
	c, err := flight.NewClientWithMiddleware(target, nil, nil, opts...)
	if err != nil {
		return nil, fmt.Errorf("flightclient: %s: %w", server, err)
	}
	return &Client{server, c}, nil
}

// Close closes the connection, which cancels all calls on it.
func (c *Client) Close() error {
	if c == nil || c.flight == nil {
		return nil
	}
	return c.flight.Close()
}

func (c *Client) conn() (flight.Client, error) {
	if c == nil || c.flight == nil {
		return nil, fmt.Errorf("flightclient: the client was not created by Dial: %w", tables.ErrClosed)
	}
	return c.flight, nil
}

// callHeaders returns the headers of each call; its value is the token, or "". Dial ensures that a call with a token is
// encrypted, unless Options.Insecure is set or the server is on this machine.
type callHeaders string

func (token callHeaders) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	headers := map[string]string{operations.ProtocolHeader: strconv.Itoa(operations.ProtocolVersion)}
	if token != "" {
		headers["authorization"] = "Bearer " + string(token)
	}
	return headers, nil
}

func (callHeaders) RequireTransportSecurity() bool { return false }

// callError is the error of a call, with the details that the server sent in a trailer.
type callError struct {
	error
	details *kinds.Details // nil if the server sent none
}

func (e *callError) GRPCStatus() *status.Status { return status.Convert(e.error) }

// detailedStream is a stream whose RecvMsg returns callErrors.
type detailedStream struct{ grpc.ClientStream }

func (s detailedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || err == io.EOF { //nolint:errorlint // streams return io.EOF unwrapped
		return err
	}
	return &callError{err, kinds.Parse(cmp.Or(s.Trailer().Get(kinds.Header)...))}
}

func openStream(ctx context.Context, d *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, d, conn, method, o...)
	return detailedStream{stream}, err
}

// convertError converts a gRPC error to one that wraps Go errors, such as tables.ErrNotFound, according to the details
// that the server sent. If the server sent none, the gRPC code determines the Go errors.
func (c *Client) convertError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	details := kinds.Of(err)
	if e, ok := errors.AsType[*callError](err); ok && e.details != nil {
		details = e.details
	}
	text := s.Message()
	if strings.Contains(text, keepAliveFailed) {
		text = "the server or the network no longer answers: check both, and then repeat the command"
	}
	switch s.Code() {
	case codes.Unavailable, codes.Unauthenticated, codes.PermissionDenied, codes.Internal, codes.Canceled, codes.DeadlineExceeded:
		text = c.url + ": " + text
	}
	return canceled.Explain(ctx, details.GoError(text))
}

// keepAliveFailed is grpc-go's text for a failed ping, an error that has no code of its own. A test checks the text.
const keepAliveFailed = "keepalive ping failed"

// changeError is like convertError, for a call that sent a change: if the server did not answer, or could not tell
// whether the change was made, the error also wraps partd.ErrUnknownOutcome.
func (c *Client) changeError(ctx context.Context, err error) error {
	converted := c.convertError(ctx, err)
	if d := kinds.Of(converted); d.Kind != kinds.Internal && d.Retry == kinds.WithID && !errors.Is(converted, partd.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", converted, partd.ErrUnknownOutcome)
	}
	return converted
}

// Package flightclient works with the tables of a server (partd-tables serve) as package
// tables works with those of a directory. Rows are streamed in both directions, in bounded
// memory.
package flightclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables"
)

// DefaultPort is the port of URLs that have none.
const DefaultPort = "8081"

// maxMessage bounds what is taken of one message, in bytes. The server's are far
// smaller, unless one row is larger.
const maxMessage = 256 << 20

// Options are the options of Dial. The zero value, and nil, are the defaults.
type Options struct {
	Token string         // "": no token
	CAs   *x509.CertPool // the authorities that the server's certificate may come from; nil: the system's
	// Insecure allows sending the token to another host without TLS, where anyone on the
	// way can read it.
	Insecure bool
}

// Client is a connection to a server. It reconnects as needed and is safe for concurrent
// use.
//
// Errors wrap the same errors as those of a [tables.Store]: tables.ErrNotFound, ErrExists,
// ErrConflict and errors.ErrUnsupported. If the connection was lost after a change was
// sent, they wrap partd.ErrUnknownOutcome; a put with an id may then be repeated.
type Client struct {
	url    string
	flight flight.Client
}

// Dial returns a client of the server at grpc://HOST:PORT or grpc+tls://HOST:PORT. The
// first call makes the connection.
func Dial(server string, o *Options) (*Client, error) {
	o = cmp.Or(o, new(Options))
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("flightclient: %q is no server: it should be as grpc://HOST:PORT or grpc+tls://HOST:PORT", server)
	}
	var creds credentials.TransportCredentials
	switch u.Scheme {
	case "grpc+tls":
		creds = credentials.NewTLS(&tls.Config{RootCAs: o.CAs, MinVersion: tls.VersionTLS12})
	case "grpc":
		if ip := net.ParseIP(u.Hostname()); o.Token != "" && !o.Insecure && u.Hostname() != "localhost" && !ip.IsLoopback() {
			return nil, fmt.Errorf("flightclient: %s: a token without TLS could be read on the way: use grpc+tls://, or allow it", server)
		}
		creds = insecure.NewCredentials()
	default:
		return nil, fmt.Errorf("flightclient: %q: there is no scheme %q, only grpc and grpc+tls", server, u.Scheme)
	}
	port := cmp.Or(u.Port(), DefaultPort)
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
	if o.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(o.Token)))
	}
	c, err := flight.NewClientWithMiddleware(net.JoinHostPort(u.Hostname(), port), nil, nil, opts...)
	if err != nil {
		return nil, fmt.Errorf("flightclient: %s: %w", server, err)
	}
	return &Client{server, c}, nil
}

// Close closes the connection and ends all calls on it.
func (c *Client) Close() error {
	if c == nil || c.flight == nil {
		return nil
	}
	return c.flight.Close()
}

// conn returns the connection of a client that Dial made.
func (c *Client) conn() (flight.Client, error) {
	if c == nil || c.flight == nil {
		return nil, fmt.Errorf("flightclient: the client is none that Dial returned: %w", tables.ErrClosed)
	}
	return c.flight, nil
}

// bearer is the token as a header. That it is not sent openly, Dial sees to.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

// serverError is what the server said, as one of the errors of package tables.
type serverError struct {
	text string
	is   error
}

func (e *serverError) Error() string { return e.text }
func (e *serverError) Unwrap() error { return e.is }

var meanings = map[codes.Code]error{
	codes.NotFound:         tables.ErrNotFound,
	codes.AlreadyExists:    tables.ErrExists,
	codes.Aborted:          tables.ErrConflict,
	codes.DataLoss:         tables.ErrDamaged,
	codes.Unimplemented:    errors.ErrUnsupported,
	codes.Unknown:          partd.ErrUnknownOutcome,
	codes.Canceled:         context.Canceled,
	codes.DeadlineExceeded: context.DeadlineExceeded,
}

// fail makes an error of what a call returned.
func (c *Client) fail(ctx context.Context, err error) error {
	s, ok := status.FromError(err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return err
	}
	text := s.Message()
	switch s.Code() {
	case codes.Unavailable, codes.Unauthenticated, codes.PermissionDenied, codes.Internal, codes.Canceled, codes.DeadlineExceeded:
		text = c.url + ": " + text
	}
	return canceled.Explain(ctx, &serverError{text, meanings[s.Code()]})
}

// changed is fail for a change that was sent: where nothing was heard of it, the
// outcome is unknown.
func (c *Client) changed(ctx context.Context, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", c.fail(ctx, err), partd.ErrUnknownOutcome)
	}
	return c.fail(ctx, err)
}

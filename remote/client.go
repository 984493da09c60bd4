package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-partd/partd"
)

// ClientOptions are the options of [Dial]. Nil, and each zero value, is a
// default.
type ClientOptions struct {
	// DialTimeout is how long connecting may take, once; 10 seconds unless
	// given.
	DialTimeout time.Duration
	// RetryFor is how long a client goes on connecting again before the calls
	// that wait for it fail; a minute unless given. A later call begins anew.
	RetryFor time.Duration
	// StallTimeout is how long a reply that has begun may take to arrive, beside
	// a second for each 16 KiB; 30 seconds unless given.
	StallTimeout time.Duration
	// Namespace is that of the server's stores which the client works on, the
	// default one unless it is given, here or in the URL.
	Namespace string
	// Token says who the client is, to a server that has users. Over tcp:// it is
	// sent to this machine alone, unless InsecureToken is set: others could read it.
	Token         string
	InsecureToken bool
	// TLS is for tls:// only. Unless it is given, the server's certificate must be
	// of an authority that the system trusts. The name to be found in the
	// certificate is the host's of the URL, unless ServerName is given.
	TLS *tls.Config
	// Logger is told of broken connections. Nothing is logged unless given.
	Logger *slog.Logger
}

const (
	defaultDial  = 10 * time.Second
	defaultRetry = time.Minute

	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
	closeTimeout = 2 * time.Second // for telling the server that the client leaves
)

// Client is a store that works on the store of a [Server]. It is safe for
// concurrent use: calls are sent as they come over one connection, which is made
// again when it breaks. Each call is bounded by its context. A change whose
// context ends after it was sent returns an error that wraps
// [partd.ErrUnknownOutcome].
type Client struct {
	url  string
	addr address
	tls  *tls.Config // nil without TLS
	opts ClientOptions

	dial func(ctx context.Context) (net.Conn, error)

	life context.Context // ends with Close
	end  context.CancelFunc

	mu       sync.Mutex // taken last, after a link's token and a call's writing
	closed   bool
	link     *link            // nil while there is no connection
	attempt  *attempt         // to connect, nil if there is none
	stuck    time.Time        // since when connections were of no use, zero if the last one was
	backoff  time.Duration    // before connecting again
	broken   error            // why the last connection was of no use
	calls    map[uint64]*call // sent and not answered, by number
	last     uint64           // number of the last call
	instance uint64           // of the server connected to last
	ops      opSequence
	abandon  []partd.Tag       // pops whose results nobody waits for
	proofs   map[uint64]*proof // of the sessions that the client was given
}

// Dial connects to the server at a URL, tcp://HOST:PORT, tls://HOST:PORT or
// ipc:///PATH. It must be
// a [Server]: Python's own server does not know this client's protocol.
func Dial(ctx context.Context, url string, opts *ClientOptions) (*Client, error) {
	c, err := newClient(url, opts)
	if err == nil {
		err = c.begin(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func newClient(url string, opts *ClientOptions) (*Client, error) {
	addr, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	var o ClientOptions
	if opts != nil {
		o = *opts
	}
	if addr.namespace != "" {
		if o.Namespace != "" && o.Namespace != addr.namespace {
			return nil, fmt.Errorf("remote: the namespace is %q in %s, and %q in ClientOptions", addr.namespace, url, o.Namespace)
		}
		o.Namespace = addr.namespace
	}
	if o.Namespace != "" {
		if err := CheckNamespace(o.Namespace); err != nil {
			return nil, fmt.Errorf("remote: %w", err)
		}
	}
	if o.DialTimeout < 0 || o.RetryFor < 0 || o.StallTimeout < 0 {
		return nil, errors.New("remote: a time in ClientOptions is below 0")
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, defaultDial)
	o.RetryFor = cmp.Or(o.RetryFor, defaultRetry)
	o.StallTimeout = cmp.Or(o.StallTimeout, defaultStall)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	c := &Client{url: url, addr: addr, opts: o, calls: map[uint64]*call{}, proofs: map[uint64]*proof{}}
	if addr.secure {
		c.tls = secured(cmp.Or(o.TLS, new(tls.Config)))
		if host, _, err := net.SplitHostPort(addr.address); err == nil && c.tls.ServerName == "" {
			c.tls.ServerName = host
		}
	} else if o.TLS != nil {
		return nil, fmt.Errorf("remote: %s with options for TLS: write tls://HOST:PORT", url)
	}
	c.dial = c.dialNet
	return c, nil
}

// begin makes the first connection.
func (c *Client) begin(ctx context.Context) error {
	c.life, c.end = context.WithCancel(context.Background())
	l, err := c.connect(ctx)
	if err == nil {
		err = c.use(l)
	}
	if err != nil {
		c.end()
		return &partd.Error{Op: "dial", Path: c.url, Err: err}
	}
	return nil
}

func (c *Client) errorf(op string, err error) error {
	if err == nil || errors.As(err, new(*partd.Error)) {
		return err
	}
	return &partd.Error{Op: op, Path: c.url, Err: err}
}

// Close ends the client's session and its connection; the server's store stays
// open. Calls under way fail. A server that does not answer is waited for two
// seconds at the most.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	l, session := c.link, c.ops.session
	c.mu.Unlock()
	if l != nil {
		c.sayGoodbye(l, session)
	}
	c.end()
	c.mu.Lock()
	at := c.attempt
	c.mu.Unlock()
	if at != nil {
		<-at.done
	}
	c.mu.Lock()
	l = c.link
	c.mu.Unlock()
	if l != nil {
		l.abort()
		<-l.ended
	}
	c.failAll(partd.ErrClosed)
	return nil
}

// sayGoodbye ends the session, as far as that is quickly done. One that is not
// ended is forgotten some day.
func (c *Client) sayGoodbye(l *link, session uint64) {
	if session == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(c.life, closeTimeout)
	defer cancel()
	k := newCall(opEndSession)
	k.session = session
	defer k.forget(c)
	c.mu.Lock()
	c.register(k)
	c.mu.Unlock()
	l.tell(ctx, k)
	select {
	case <-k.done:
	case <-l.ended:
	case <-ctx.Done():
	}
}

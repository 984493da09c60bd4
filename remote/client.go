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

// ClientOptions configures [Dial]. Nil and zero values mean the defaults.
type ClientOptions struct {
	// DialTimeout limits one attempt to connect. 0 means 10 seconds.
	DialTimeout time.Duration
	// RetryFor is how long the client tries to reconnect before the calls
	// that wait for it fail. 0 means one minute. A later call starts over.
	RetryFor time.Duration
	// StallTimeout limits how long a reply that has begun may take to arrive,
	// plus a second for each 16 KiB. 0 means 30 seconds.
	StallTimeout time.Duration
	// Namespace selects the store of the server that the client works on. The
	// default namespace is used unless this option or the URL names one.
	Namespace string
	// Token identifies the client to a server that has users. Over tcp://, where
	// others could read it, it is sent only to this machine, unless InsecureToken is
	// set.
	Token         string
	InsecureToken bool
	// TLS is for tls:// only. Without it, an authority that the system trusts must
	// have signed the server's certificate. The certificate must contain the host
	// name of the URL, or ServerName if that is set.
	TLS *tls.Config
	// Logger receives messages about broken connections. Nil means no
	// logging.
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
// concurrent use: it sends calls as they come over one connection, and
// reconnects when that breaks. A call ends when its context does. A change whose
// context ends after the change was sent returns an error that wraps
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
	lives    uint64           // how often that was another one
	ops      opSequence
	abandon  []partd.Tag       // pops whose results nobody waits for
	proofs   map[uint64]*proof // of the sessions that the client was given
}

// Dial connects to the server at a URL, tcp://HOST:PORT, tls://HOST:PORT or
// ipc:///PATH. It must be a [Server]: Python's own server does not speak this
// client's protocol.
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
	o := *cmp.Or(opts, new(ClientOptions))
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
		return nil, errors.New("remote: a time in ClientOptions is negative")
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
		return nil, fmt.Errorf("remote: %s has TLS options: write tls://HOST:PORT", url)
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
// open. Calls in progress fail. Close waits at most two seconds for a server
// that does not answer.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed || c.calls == nil {
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

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
	// RetryFor is how long the client tries to reconnect before waiting calls fail. 0
	// means one minute. A later call makes the client try again, for the same time.
	RetryFor time.Duration
	// Namespace selects one of the server's stores. The default namespace is used
	// unless this option or the URL names one.
	Namespace string
	// Token identifies the client to a server that has users. Over tcp://, others could read the
	// token, so the client sends it only to this machine, unless InsecureToken is set.
	Token         string
	InsecureToken bool
	// TLS is for tls:// only. By default, an authority that the system trusts must have
	// signed the server's certificate. The certificate must contain the host name of
	// the URL, or ServerName if that is set.
	TLS *tls.Config
	// Logger receives messages about broken connections. Nil means no logging.
	Logger *slog.Logger
}

const (
	dialTimeout  = 10 * time.Second // for one attempt to connect
	defaultRetry = time.Minute

	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
	closeTimeout = 2 * time.Second // for ending the session or closing a reader on the server
)

// Client is a store that uses the store of a [Server]. It is safe for concurrent use: it sends all
// calls over one connection, and reconnects when the connection breaks. A call ends when its
// context ends. If its context ends after a change was sent, the error wraps
// [partd.ErrUnknownOutcome].
type Client struct {
	url  string
	addr address
	tls  *tls.Config // nil without TLS
	opts ClientOptions

	dial func(ctx context.Context) (net.Conn, error)

	life       context.Context // ends when the client is closed
	cancelLife context.CancelFunc

	mu           sync.Mutex // locked last: after a link's writeToken and a call's writeMu
	closed       bool
	link         *link            // nil while there is no connection
	attempt      *attempt         // the attempt to connect that is in progress, or nil
	uselessSince time.Time        // when connections began to fail without an answer; zero if the last connection delivered an answer
	backoff      time.Duration    // pause before the next attempt to connect
	linkErr      error            // error of the last connection that delivered no answer
	calls        map[uint64]*call // unanswered calls, by number
	lastNumber   uint64           // number of the last call
	instance     uint64           // identifies the server process of the last connection
	maxMessage   int64            // message limit of the last connection
	restarts     uint64           // number of times that instance has changed
	ops          opSequence
	droppedPops  []partd.Tag       // pops to confirm to the server, which then deletes their results
	proofs       map[uint64]*proof // session tokens that this client may use, by session
}

// Dial connects to the server at a URL: tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH. The
// server must be a [Server]: Python's own server does not speak this client's protocol.
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
	if o.RetryFor < 0 {
		return nil, errors.New("remote: ClientOptions.RetryFor is negative")
	}
	o.RetryFor = cmp.Or(o.RetryFor, defaultRetry)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	c := &Client{url: url, addr: addr, opts: o, calls: map[uint64]*call{}, proofs: map[uint64]*proof{}}
	if addr.secure {
		c.tls = withSecureSettings(cmp.Or(o.TLS, new(tls.Config)))
		if host, _, err := net.SplitHostPort(addr.address); err == nil && c.tls.ServerName == "" {
			c.tls.ServerName = host
		}
	} else if o.TLS != nil {
		return nil, fmt.Errorf("remote: TLS options are set for %s: use tls://HOST:PORT", url)
	}
	c.dial = c.dialNet
	return c, nil
}

func (c *Client) begin(ctx context.Context) error {
	c.life, c.cancelLife = context.WithCancel(context.Background())
	l, err := c.connect(ctx)
	if err == nil {
		err = c.useLink(l)
	}
	if err != nil {
		c.cancelLife()
		return &partd.Error{Op: "dial", Path: c.url, Err: err}
	}
	return nil
}

func (c *Client) wrapError(op string, err error) error {
	if err == nil || errors.As(err, new(*partd.Error)) {
		return err
	}
	return &partd.Error{Op: op, Path: c.url, Err: err}
}

// Close ends the client's session and its connection; the server's store stays open. Calls in
// progress fail. Close waits at most two seconds for a server that does not answer.
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
		c.endOwnSession(l, session)
	}
	c.cancelLife()
	c.mu.Lock()
	current := c.attempt
	c.mu.Unlock()
	if current != nil {
		<-current.done
	}
	c.mu.Lock()
	l = c.link
	c.mu.Unlock()
	if l != nil {
		l.abort()
		<-l.done
	}
	c.failAll(partd.ErrClosed)
	return nil
}

// endOwnSession asks the server to end the client's session, and waits at most closeTimeout for
// the answer. If the request is lost, the server forgets the session later.
func (c *Client) endOwnSession(l *link, session uint64) {
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
	l.notify(ctx, k)
	select {
	case <-k.done:
	case <-l.done:
	case <-ctx.Done():
	}
}

package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// ClientOptions configures [Dial]. Nil and zero values mean the defaults.
type ClientOptions struct {
	// RetryFor is how long the client tries to reconnect before waiting calls fail. 0
	// means one minute. A later call makes the client try again for the same time.
	RetryFor time.Duration
	// Namespace selects one of the server's stores. The default namespace is used
	// unless this option or the URL names one.
	Namespace string
	// Token identifies the client to a server that has users. Others could read it on its way over
	// tcp://, so the client sends it over tcp:// only to this machine, unless InsecureToken is set.
	Token         string
	InsecureToken bool
	// TLS configures connections to tls:// URLs. By default, the server's certificate must be
	// signed by an authority that the system trusts. It must contain the URL's host name, or
	// ServerName if that is set.
	TLS *tls.Config
	// Logger receives messages about broken connections. Nil means no logging.
	Logger *slog.Logger
}

// dialer opens connections to one server. Its fields do not change after init.
type dialer struct {
	url  string
	addr address
	tls  *tls.Config // nil without TLS
	opts ClientOptions

	dial func(ctx context.Context) (net.Conn, error)
}

const (
	dialTimeout  = 10 * time.Second // limit for one attempt to connect
	defaultRetry = time.Minute

	// maxSilence is how long sent data may stay unacknowledged, or the server's receive buffer full. It is as long as
	// keep-alive probes take to detect a dead server, and longer than servers wait for memory by default.
	maxSilence = 45 * time.Second
)

func (d *dialer) init(url string, opts *ClientOptions) error {
	addr, err := parseURL(url)
	if err != nil {
		return fmt.Errorf("remote: %w", err)
	}
	o := *cmp.Or(opts, new(ClientOptions))
	if addr.namespace != "" {
		if o.Namespace != "" && o.Namespace != addr.namespace {
			return fmt.Errorf("remote: the namespace is %q in %s, but %q in ClientOptions", addr.namespace, url, o.Namespace)
		}
		o.Namespace = addr.namespace
	}
	if o.Namespace != "" {
		if err := CheckNamespace(o.Namespace); err != nil {
			return fmt.Errorf("remote: %w", err)
		}
	}
	if o.RetryFor < 0 {
		return errors.New("remote: ClientOptions.RetryFor is negative")
	}
	o.RetryFor = cmp.Or(o.RetryFor, defaultRetry)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	d.url, d.addr, d.opts, d.dial = url, addr, o, d.dialNet
	if addr.secure {
		d.tls = withSecureSettings(cmp.Or(o.TLS, new(tls.Config)))
		if host, _, err := net.SplitHostPort(addr.address); err == nil && d.tls.ServerName == "" {
			d.tls.ServerName = host
		}
	} else if o.TLS != nil {
		return fmt.Errorf("remote: TLS options are set for %s: use tls://HOST:PORT", url)
	}
	return nil
}

func (d *dialer) wrapError(op string, err error) error {
	if err == nil || errors.As(err, new(*partd.Error)) {
		return err
	}
	return &partd.Error{Op: op, Path: d.url, Err: err}
}

func (d *dialer) badReply(op string, err error) error {
	err = cmp.Or(err, errors.New("it does not match the request"))
	return &partd.Error{Op: op, Path: d.url, Err: fmt.Errorf("cannot decode the server's reply: %w", err)}
}

// maxReply is the maximum length of a reply, in bytes: a page, the headers of its items and one key.
const maxReply = defaultPage + 1<<20

// connect opens a connection over which requests may use the given session. It returns the connection
// with its writeToken held.
func (d *dialer) connect(ctx context.Context, session uint64, p *proofs) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { hangUp(nc) }) // makes the handshake fail
	l, err := d.open(nc, session, p)
	if !stop() && err == nil {
		err = canceled.Err(ctx)
	}
	if err != nil {
		hangUp(nc)
		return nil, errors.Join(err, canceled.Err(ctx))
	}
	return l, nil
}

func (d *dialer) dialNet(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6},
		Control:         limitSilence,
	}
	nc, err := dialer.DialContext(ctx, d.addr.network, d.addr.address)
	if err != nil {
		return nil, err
	}
	if !d.addr.secure {
		if err := d.checkTokenExposure(nc.RemoteAddr()); err != nil {
			hangUp(nc)
			return nil, err
		}
		return nc, nil
	}
	s := tls.Client(nc, d.tls)
	if err := s.HandshakeContext(ctx); err != nil {
		hangUp(nc)
		return nil, fmt.Errorf("cannot establish TLS: %w", err)
	}
	return s, nil
}

// checkTokenExposure returns an error if others could read the token on its way to the server.
func (d *dialer) checkTokenExposure(addr net.Addr) error {
	if d.opts.Token == "" || d.opts.InsecureToken || !IsExposed(addr) {
		return nil
	}
	return fmt.Errorf("%w: the token was not sent, because others could read it over tcp://: use tls:// (or insecure=true, if nobody can eavesdrop on the network)", errRefused)
}

func (d *dialer) open(nc net.Conn, session uint64, p *proofs) (*link, error) {
	buffered, err := zmtp.Open(nc, zmtp.Dealer, dialTimeout)
	if errors.Is(err, zmtp.ErrLibzmq) {
		return nil, fmt.Errorf("%w: %w", errHello, err)
	}
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	l := &link{nc: nc, proofs: p, writeToken: make(chan struct{}, 1), done: make(chan struct{})}
	l.writeToken <- struct{}{}
	l.reader = zmtp.NewReader(nc, buffered, zmtp.ReaderOptions{
		MaxMessage: maxReply, MaxFrames: 16, Stall: defaultStall,
		Command: l.command,
	})
	token, _ := p.present(session, l)
	req := newCall(opHello)
	req.u16(protocolVersion)
	req.u16(protocolVersion)
	req.u32(defaultPage)
	req.u64(session)
	req.buf = append(req.buf, token[:]...)
	req.buf = appendText(req.buf, d.opts.Namespace)
	req.buf = appendText(req.buf, d.opts.Token)
	req.number = 1
	if _, err := l.write(req.parts()); err != nil {
		return nil, err
	}
	frame, _, err := l.reader.NextFrame()
	if err != nil {
		return nil, err
	}
	if err := l.parseHello(frame, d.url); err != nil {
		return nil, err
	}
	return l, nc.SetDeadline(time.Time{})
}

// errHello means that the server speaks another protocol or version. Reconnecting does not help.
var errHello = errors.New("the server does not answer like a partd server")

// errRefused means that the server rejected the client, or that the client must not send its
// token. Reconnecting does not help.
var errRefused = errors.New("refused")

func (l *link) parseHello(frame []byte, url string) error {
	r, body, err := parseReply(frame)
	if err != nil {
		return fmt.Errorf("%w: %w", errHello, err)
	}
	if r.status != statusOK {
		err := parseError(body, "hello", url)
		if errors.Is(err, ErrBusy) {
			return err
		}
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	d := &decoder{b: body}
	version, _ := d.u32(), d.u32()
	l.instance, l.maxMessage, l.pageSize = d.u64(), int64(d.u64()), int(d.u32())
	_ = d.u32() // maximum number of handles
	if d.err != nil || version != protocolVersion || l.maxMessage < minMessage || l.pageSize < 1 || l.pageSize > defaultPage {
		return fmt.Errorf("%w: it offers version %d, messages of up to %d bytes, and pages of up to %d bytes", errHello, version, l.maxMessage, l.pageSize)
	}
	return nil
}

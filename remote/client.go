package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd"
)

// Client is a store that uses the store of a [Server]. It is safe for concurrent use: it sends all
// calls over one connection and reconnects when the connection breaks. A call ends when its
// context ends. If its context ends after a change was sent, the error wraps
// [partd.ErrUnknownOutcome].
type Client struct{ exchange }

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
	c := new(Client)
	if err := c.init(url, opts); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the client's session and its connection; the server's store stays open. Calls in
// progress fail. Close waits at most two seconds for a server that does not answer.
func (c *Client) Close() error {
	c.end()
	return nil
}

// Instance returns how often the client has found the server restarted. The count grows before the
// client handles the first answer from the new process, because that process may serve another
// store.
func (c *Client) Instance() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

// NewSession creates a session in the server's store, for use with [Client.Apply].
func (c *Client) NewSession(ctx context.Context) (uint64, error) {
	req := newSessionRequest(0, partd.SessionToken{})
	if err := c.do(ctx, req); err != nil {
		return 0, c.wrapError("new session", err)
	}
	session, _, err := c.parseSession(req)
	return session, c.wrapError("new session", err)
}

// EndSession makes the server forget a session. Sessions of other clients are not affected.
func (c *Client) EndSession(ctx context.Context, session uint64) error {
	req := newCall(opEndSession)
	req.session = session
	err := c.do(ctx, req)
	if err == nil {
		c.proofs.remove(session)
	}
	return c.wrapError("end session", err)
}

// SessionToken returns the token of a session that was issued to this client.
func (c *Client) SessionToken(ctx context.Context, session uint64) (partd.SessionToken, error) {
	if err := c.checkUsable(ctx); err != nil {
		return partd.SessionToken{}, c.wrapError("session token", err)
	}
	if token, known := c.proofs.token(session); known {
		return token, nil
	}
	return partd.SessionToken{}, c.wrapError("session token", fmt.Errorf("session %d: %w", session, partd.ErrSessionExpired))
}

// CheckSession presents the token of another client's session to the server. If the server accepts
// it, this client may also use the session.
func (c *Client) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	req := newSessionRequest(session, token)
	if err := c.do(ctx, req); err != nil {
		return c.wrapError("check session", err)
	}
	c.proofs.store(session, token, req.link)
	return nil
}

// Flush flushes the server's store, as [partd.Flush] does.
func (c *Client) Flush(ctx context.Context) error { return c.simpleCall(ctx, opFlush) }

// Sync makes all acknowledged changes durable, so that they survive a power failure of the server's
// machine.
func (c *Client) Sync(ctx context.Context) error { return c.simpleCall(ctx, opSync) }

// Stat returns the statistics of the server's store.
func (c *Client) Stat(ctx context.Context) (partd.Stats, error) {
	req := newCall(opStat)
	req.flags |= flagCount
	if err := c.do(ctx, req); err != nil {
		return partd.Stats{}, c.wrapError("stat", err)
	}
	d := &decoder{b: req.reply}
	st := partd.Stats{Keys: int64(d.u64()), Bytes: int64(d.u64()), Memory: int64(d.u64()), Disk: int64(d.u64()), Changes: int64(d.u64())}
	if err := d.end(); err != nil {
		return partd.Stats{}, c.badReply("stat", err)
	}
	return st, nil
}

// Check makes the server verify all checksums of its store. Its error joins a [partd.CorruptError]
// for each damaged place in the server's files.
func (c *Client) Check(ctx context.Context) (partd.CheckResult, error) {
	req := newCall(opVerify)
	if err := c.do(ctx, req); err != nil {
		return partd.CheckResult{}, c.wrapError("verify", err)
	}
	d := &decoder{b: req.reply}
	result := partd.CheckResult{Records: int64(d.u64()), Segments: int64(d.u64())}
	var errs []error
	for range d.count(4+8+4, 0) {
		file, offset, text := d.text(), int64(d.u64()), d.text()
		errs = append(errs, &partd.CorruptError{Path: file, Offset: offset, Err: errors.New(text)})
	}
	if err := d.end(); err != nil {
		return partd.CheckResult{}, c.badReply("verify", err)
	}
	return result, c.wrapError("verify", errors.Join(errs...))
}

// Namespaces lists the namespaces for which the user has the admin right, except the default one.
func (c *Client) Namespaces(ctx context.Context) ([]NamespaceInfo, error) {
	var all []NamespaceInfo
	for lastName, more := "", true; more; {
		req := newCall(opNamespaces)
		req.buf = appendText(req.buf, lastName)
		if err := c.do(ctx, req); err != nil {
			return nil, c.wrapError("namespaces", err)
		}
		d := &decoder{b: req.reply}
		next, n := d.text(), d.u32()
		for ; n > 0 && d.err == nil; n-- {
			all = append(all, NamespaceInfo{Name: d.text(), DiskBytes: int64(d.u64()), LastUsed: time.Unix(int64(d.u64()), 0)})
		}
		if err := d.end(); err != nil {
			return nil, c.wrapError("namespaces", fmt.Errorf("%w: %w", ErrBadRequest, err))
		}
		more = req.replyFlags&flagMore != 0 && next > lastName
		lastName = next
	}
	return all, nil
}

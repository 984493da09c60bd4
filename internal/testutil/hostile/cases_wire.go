package hostile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// raw sends bytes, at once or after the handshake, and wants the connection
// closed.
func raw(opened bool, parts ...[]byte) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		dial := Dial
		if opened {
			dial = Open
		}
		p, err := dial(ctx, t.Network, t.Address, t.Patience)
		if err != nil {
			return err
		}
		defer p.Close()
		for _, b := range parts {
			if err := p.Raw(b); err != nil && !isReset(err) {
				return err
			}
		}
		return p.Closed()
	}
}

// slowly sends bytes one by one, for as long as the server may take to give the
// peer up.
func slowly(b []byte) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		p, err := Dial(ctx, t.Network, t.Address, t.Patience)
		if err != nil {
			return err
		}
		defer p.Close()
		for i := range b {
			if err := p.Raw(b[i : i+1]); err != nil {
				return unlessReset(err)
			}
			time.Sleep(t.Patience / time.Duration(len(b)))
		}
		return fmt.Errorf("the server waited %v for a greeting of %d bytes", t.Patience, len(b))
	}
}

// within runs f on an open connection.
func within(ctx context.Context, t *Target, f func(p *Peer) error) error {
	p, err := Open(ctx, t.Network, t.Address, t.Patience)
	if err != nil {
		return err
	}
	return errors.Join(f(p), p.Close())
}

// nothingUnder wants keys to have no value.
func nothingUnder(ctx context.Context, t *Target, keys ...string) error {
	return within(ctx, t, func(p *Peer) error {
		values, err := p.Get(keys...)
		if err == nil && strings.Join(values, "") != "" {
			err = fmt.Errorf("something of it was applied: %q hold %.80q", keys, values)
		}
		return err
	})
}

func truncated(ctx context.Context, t *Target) error {
	whole := Message("append", "truncated", "v", "truncated2", strings.Repeat("v", 300))
	for cut := 1; cut < len(whole); cut += 7 {
		err := within(ctx, t, func(p *Peer) error {
			if err := p.Raw(whole[:cut]); err != nil {
				return err
			}
			if c, ok := p.conn.(interface{ CloseWrite() error }); ok {
				if err := c.CloseWrite(); err != nil {
					return err
				}
			}
			return p.Closed()
		})
		if err != nil {
			return fmt.Errorf("cut after %d bytes: %w", cut, err)
		}
	}
	return nothingUnder(ctx, t, "truncated", "truncated2")
}

// endless sends frames of a message that never ends.
func endless(body string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		return within(ctx, t, func(p *Peer) error {
			if err := p.Raw(frame(flagMore, "get")); err != nil {
				return err
			}
			batch := []byte(strings.Repeat(string(frame(flagMore, body)), 10_000))
			for sent := 0; sent < 4*t.MaxMessage+16<<20; sent += len(batch) {
				if err := p.Raw(batch); err != nil {
					return unlessReset(err)
				}
			}
			return p.Closed()
		})
	}
}

// emptyMessages sends messages of one empty frame, and reads their answers: each
// is an error, and costs nobody but who sent it.
func emptyMessages(ctx context.Context, t *Target) error {
	return within(ctx, t, func(p *Peer) error {
		for range 1000 {
			if err := p.Send(""); err != nil {
				return unlessReset(err)
			}
			if _, err := p.Receive(); err != nil {
				return unlessReset(err)
			}
		}
		return nil
	})
}

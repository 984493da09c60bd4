package hostile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// expectError sends a request over the protocol of Python's partd. The server must answer with an error,
// must not set the keys "odd" and "odd2", and must keep the connection usable.
func expectError(request ...string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		err := withPeer(ctx, t, func(p *Peer) error {
			if err := p.Ask([]string{"ack"}, "syn"); err != nil {
				return err
			}
			if err := p.Send(request...); err != nil {
				return err
			}
			got, err := p.Receive()
			if err != nil {
				return fmt.Errorf("the answer to %q: %w", request, err)
			}
			if len(got) != 1 || !strings.HasPrefix(got[0], "error: ") {
				return fmt.Errorf("the answer to %q is %q, want one frame that begins with \"error: \"", request, got)
			}
			if err := p.expectReply([]string{"ack"}, request); err != nil {
				return err
			}
			return p.Ask([]string{"ack"}, "append", "refused", "")
		})
		if err != nil {
			return err
		}
		return expectNoValues(ctx, t, "odd", "odd2")
	}
}

// expectAnswer sends a request. The server must send exactly the answer want.
func expectAnswer(want []string, request ...string) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		return withPeer(ctx, t, func(p *Peer) error {
			if err := p.Ask(want, request...); err != nil {
				return err
			}
			return p.Ask([]string{"ack"}, "syn") // fails if another answer to the request follows
		})
	}
}

// useSameIdentity opens two connections with the same identity, which the server must not mix up.
func useSameIdentity(ctx context.Context, t *Target) error {
	var peers [2]*Peer
	for i := range peers {
		p, err := Dial(ctx, t.Network, t.Address, t.Patience)
		if err != nil {
			return err
		}
		defer p.Close()
		if err := p.Raw(append(greeting(3, "NULL"), ready("DEALER", "the same")...)); err != nil {
			return err
		}
		if err := p.ReadGreeting(); err != nil {
			return err
		}
		peers[i] = p
	}
	for i, p := range peers {
		if err := p.Ask([]string{"ack"}, "iset", fmt.Sprint("identity ", i), fmt.Sprint("value of ", i)); err != nil {
			return err
		}
	}
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() {
			for range 100 {
				values, err := p.Get(fmt.Sprint("identity ", i))
				if err == nil && values[0] != fmt.Sprint("value of ", i) {
					err = fmt.Errorf("peer %d reads %q, want its own value", i, values)
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func checkPing(ctx context.Context, t *Target) error {
	return withPeer(ctx, t, func(p *Peer) error {
		for _, text := range []string{"", "context", strings.Repeat("c", 16)} {
			if err := p.Raw(frame(flagCommand, "\x04PING\x00\x64"+text)); err != nil {
				return err
			}
			flags, body, err := p.readFrame()
			if err != nil {
				return fmt.Errorf("PING with context %q: %w", text, err)
			}
			if flags&flagCommand == 0 || string(body) != "\x04PONG"+text {
				return fmt.Errorf("PING with context %q was answered with flags %d and body %q", text, flags, body)
			}
		}
		return p.Ask([]string{"ack"}, "syn")
	})
}

// neverRead sends requests without reading the answers. The server must close this connection, and
// keep serving other clients.
func neverRead(ctx context.Context, t *Target) error {
	value := strings.Repeat("large ", 10_000)
	if err := withPeer(ctx, t, func(p *Peer) error {
		return p.Ask([]string{"ack"}, "iset", "never read", value)
	}); err != nil {
		return err
	}
	p, err := Open(ctx, t.Network, t.Address, t.Patience)
	if err != nil {
		return err
	}
	defer p.Close()
	requests := []byte(strings.Repeat(string(Message("get", "never read")), 1000))
	closed := make(chan error, 1)
	go func() {
		for {
			if err := p.Raw(requests); err != nil {
				closed <- err
				return
			}
		}
	}()
	for {
		select {
		case err := <-closed:
			if isReset(err) {
				return nil
			}
			return fmt.Errorf("a peer that never reads was not disconnected within %v: %w", t.Patience, err)
		case <-time.After(200 * time.Millisecond):
		}
		start := time.Now()
		if err := expectAnswer([]string{"ack"}, "syn")(ctx, t); err != nil {
			return fmt.Errorf("another peer, during the flood: %w", err)
		}
		if d := time.Since(start); d > time.Second {
			return fmt.Errorf("another peer waited %v, want at most 1s", d)
		}
	}
}

// openTooMany opens more connections than the server allows. The server must serve only the first ones.
func openTooMany(ctx context.Context, t *Target) error {
	if t.MaxConnections == 0 {
		return nil
	}
	var open []*Peer
	defer func() {
		for _, p := range open {
			_ = p.Close() // cleanup only
		}
	}()
	refusals := 0
	for range t.MaxConnections + 20 {
		p, err := Open(ctx, t.Network, t.Address, t.Patience)
		if err == nil {
			open = append(open, p)
			continue
		}
		if !isReset(err) {
			return fmt.Errorf("connection %d: %w", len(open)+refusals+1, err)
		}
		refusals++
	}
	if refusals < 20 || len(open) == 0 {
		return fmt.Errorf("the server refused %d of %d connections, but its limit is %d", refusals, t.MaxConnections+20, t.MaxConnections)
	}
	for i, p := range open {
		if err := p.Ask([]string{"ack"}, "syn"); err != nil {
			return fmt.Errorf("connection %d of %d: %w", i, len(open), err)
		}
	}
	return nil
}

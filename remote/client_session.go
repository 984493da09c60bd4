package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// ensureSession creates a session unless the client has one. The caller must hold l.writeToken.
func (x *exchange) ensureSession(ctx context.Context, l *link) error {
	x.mu.Lock()
	if x.calls.ops.session != 0 || x.link != l {
		x.mu.Unlock()
		return nil
	}
	k := newSessionRequest(0, partd.SessionToken{})
	k.boundLink, k.link = l, l
	k.sendCount = 1
	x.calls.register(k)
	x.mu.Unlock()
	defer k.recycle()
	defer x.forget(k)
	_ = l.send(ctx, k) // the link's reader detects errors
	if err := canceled.Wait(ctx, k.done); err != nil {
		return err
	}
	if k.err != nil {
		if errors.Is(k.err, ErrLost) {
			return nil // the caller will use another connection
		}
		return k.err
	}
	session, storeKeeps, err := x.parseSession(k)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	// Keep the token of the previous session, because its calls may still need it. Calls of
	// older sessions have all ended.
	x.proofs.remove(x.calls.ops.begin(session, storeKeeps))
	return nil
}

// parseSession parses the answer to a request for a new session, and remembers the
// session's token.
func (x *exchange) parseSession(k *call) (session uint64, storeKeeps bool, err error) {
	d := &decoder{b: k.reply}
	session, storeKeeps = d.u64(), d.bool()
	token := d.token()
	if err := d.end(); err != nil || session == 0 {
		return 0, false, fmt.Errorf("the server answered with session %d: %w", session, errors.Join(ErrBadRequest, err))
	}
	x.proofs.store(session, token, k.link)
	return session, storeKeeps, nil
}

// endOwnSession asks the server to end the client's session, and waits at most closeTimeout for
// the answer. If the request is lost, the server forgets the session later.
func (x *exchange) endOwnSession(l *link, session uint64) {
	if session == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(x.life, closeTimeout)
	defer cancel()
	k := newCall(opEndSession)
	k.session = session
	defer x.forget(k)
	x.mu.Lock()
	x.calls.register(k)
	x.mu.Unlock()
	l.notify(ctx, k)
	select {
	case <-k.done:
	case <-l.done:
	case <-ctx.Done():
	}
}

// addConfirmation records that the server may delete a pop's result, and returns the current connection.
// The client tells the server before it sends its next call.
func (x *exchange) addConfirmation(k *call) *link {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k.session != 0 { // the pop was sent
		x.calls.confirmedPops = append(x.calls.confirmedPops, partd.Tag{Session: k.session, Number: k.seq})
	}
	return x.link
}

// confirmPops tells the server which results of pops it may delete. l.writeToken must be held.
func (x *exchange) confirmPops(ctx context.Context, l *link) {
	x.mu.Lock()
	ids := x.calls.confirmedPops
	x.calls.confirmedPops = nil
	x.mu.Unlock()
	for _, id := range ids {
		k := newCall(opPopDone)
		k.session, k.seq = id.Session, id.Number
		_ = l.send(ctx, k) // the link's reader detects errors
		k.recycle()
	}
}

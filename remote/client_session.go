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
	req := newSessionRequest(0, partd.SessionToken{})
	req.boundLink, req.link = l, l
	req.sendCount = 1
	x.calls.register(req)
	x.mu.Unlock()
	defer req.recycle()
	defer x.forget(req)
	_ = l.send(ctx, req) // the link's reader detects errors
	if err := canceled.Wait(ctx, req.done); err != nil {
		return err
	}
	if req.err != nil {
		if errors.Is(req.err, ErrLost) {
			return nil // the caller will use another connection
		}
		return req.err
	}
	session, storeKeeps, err := x.parseSession(req)
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

// parseSession parses the answer to a request for a new session and stores the session's token.
func (x *exchange) parseSession(req *call) (session uint64, storeKeeps bool, err error) {
	d := &decoder{b: req.reply}
	session, storeKeeps = d.u64(), d.bool()
	token := d.token()
	if err := d.end(); err != nil || session == 0 {
		return 0, false, fmt.Errorf("the server answered with session %d: %w", session, errors.Join(ErrBadRequest, err))
	}
	x.proofs.store(session, token, req.link)
	return session, storeKeeps, nil
}

// endOwnSession asks the server to end the client's session and waits at most closeTimeout for the
// answer. If the request is lost, the server forgets the session later.
func (x *exchange) endOwnSession(l *link, session uint64) {
	if session == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(x.life, closeTimeout)
	defer cancel()
	req := newCall(opEndSession)
	req.session = session
	defer x.forget(req)
	x.mu.Lock()
	x.calls.register(req)
	x.mu.Unlock()
	l.notify(ctx, req)
	select {
	case <-req.done:
	case <-l.done:
	case <-ctx.Done():
	}
}

// addConfirmation records that the server may delete a pop's result and returns the current connection.
// The client tells the server so before it sends its next call.
func (x *exchange) addConfirmation(req *call) *link {
	x.mu.Lock()
	defer x.mu.Unlock()
	if req.session != 0 { // the pop was sent
		x.calls.confirmedPops = append(x.calls.confirmedPops, partd.Tag{Session: req.session, Number: req.seq})
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
		req := newCall(opPopDone)
		req.session, req.seq = id.Session, id.Number
		_ = l.send(ctx, req) // the link's reader detects errors
		req.recycle()
	}
}

package remote

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// opSequence is the client's session and the numbers of its changes. It is guarded by exchange.mu.
//
// If a change fails, its number stays free, and the server rejects all changes that were sent after
// the failed one. The client then waits until all sent changes are answered, and sends the rejected
// ones again, numbered from the free number.
type opSequence struct {
	session    uint64 // 0 without a session
	storeKeeps bool   // the session survives a restart of the server, because the store keeps it
	next       uint64 // number of the next change
	unanswered int    // number of unanswered changes
	lastPop    uint64 // pops have their own numbers

	recentSessions [2]uint64 // the current session and the previous one

	freeNumber  uint64        // lowest free number, or 0
	unusable    bool          // the session can no longer be used
	allAnswered chan struct{} // closed when all changes are answered; nil if no change must wait
}

// renew ends the session. The next change begins another one.
func (n *opSequence) renew() {
	if n.allAnswered != nil {
		close(n.allAnswered)
	}
	*n = opSequence{recentSessions: n.recentSessions}
}

// handleReply records the outcome of a change, and returns the error for its call.
func (n *opSequence) handleReply(req *call, err error) error {
	if req.session != n.session { // the call belongs to an earlier session
		return err
	}
	n.unanswered--
	switch {
	case err == nil:
	// Check this error first: err can wrap several of these errors if the server's store is itself
	// a client.
	case errors.Is(err, partd.ErrUnknownOutcome):
		n.unusable = true
	case errors.Is(err, partd.ErrSessionGap):
		// The change was not applied, because an earlier change was not applied. If the client
		// knows of no failed change, the server's store has lost some changes, and the session's
		// numbers are useless.
		n.unusable = n.unusable || n.freeNumber == 0
		req.mustRenumber, err = !req.abandoned, nil
	case errors.Is(err, partd.ErrSessionExpired):
		n.unusable = true
		if req.sendCount == 1 {
			req.mustRenumber, err = !req.abandoned, nil
		} else {
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	case errors.Is(err, partd.ErrSessionReused):
		// For an abandoned change, this error is harmless: the client resent an empty change with
		// the same number, and the server had already applied the original.
		n.unusable = n.unusable || !req.abandoned
	default:
		if n.freeNumber == 0 || req.seq < n.freeNumber {
			n.freeNumber = req.seq
		}
	}
	switch {
	case n.freeNumber == 0 && !n.unusable:
	case n.unanswered > 0:
		if n.allAnswered == nil {
			n.allAnswered = make(chan struct{})
		}
	case n.unusable:
		n.renew()
	default:
		n.next, n.freeNumber = n.freeNumber, 0
		if n.allAnswered != nil {
			close(n.allAnswered)
			n.allAnswered = nil
		}
	}
	return err
}

// begin makes session the current one, with numbers from 1. It returns the session before the
// previous one, because all calls of that session have ended.
func (n *opSequence) begin(session uint64, storeKeeps bool) (ended uint64) {
	n.renew()
	ended = n.recentSessions[1]
	n.recentSessions = [2]uint64{session, n.recentSessions[0]}
	n.session, n.storeKeeps, n.next = session, storeKeeps, 1
	return ended
}

// assign gives a change or a pop its session and number. instance identifies the server process to
// which the call is sent first. If the call must wait, assign returns a channel that is closed when
// the caller may try again.
func (n *opSequence) assign(req *call, instance uint64) (wait <-chan struct{}) {
	switch {
	case n.session == 0: // the session was lost, so the caller must try again at once
		closed := make(chan struct{})
		close(closed)
		return closed
	case req.isPop:
		n.lastPop++
		req.session, req.seq = n.session, n.lastPop
		req.setU64(req.instanceOffset, instance)
	case n.allAnswered != nil:
		return n.allAnswered
	default:
		req.session, req.seq = n.session, n.next
		n.next++
		n.unanswered++
	}
	return nil
}

package remote

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// opSequence holds the client's session and numbers its changes. It is guarded by exchange.mu.
//
// If a change fails, its number stays free, and the server rejects all changes that were sent after
// the failed one. The client then waits until all sent changes are answered and resends the rejected
// ones, numbered from the free number.
type opSequence struct {
	session    uint64 // 0 without a session
	storeKeeps bool   // the session survives a restart of the server, because the store keeps it
	next       uint64 // number of the next change
	unanswered int    // number of unanswered changes
	lastPop    uint64 // pops have their own numbers

	recentSessions [2]uint64 // the current session and the previous one

	freeNumber  uint64        // lowest number of a failed change; 0 if there is none
	unusable    bool          // the session can no longer be used
	allAnswered chan struct{} // closed when all changes are answered; nil if no change must wait
}

// renew ends the session. The next change begins a new one.
func (s *opSequence) renew() {
	if s.allAnswered != nil {
		close(s.allAnswered)
	}
	*s = opSequence{recentSessions: s.recentSessions}
}

// handleReply records the outcome of a change and returns the error for its call.
func (s *opSequence) handleReply(req *call, err error) error {
	if req.session != s.session { // the call belongs to an earlier session
		return err
	}
	s.unanswered--
	switch {
	case err == nil:
	// Check this error first: err can wrap several of these errors if the server's store is itself
	// a client.
	case errors.Is(err, partd.ErrUnknownOutcome):
		s.unusable = true
	case errors.Is(err, partd.ErrSessionGap):
		// The change was not applied, because an earlier change was not applied. If the client
		// knows of no failed change, the server's store has lost some changes, and the session's
		// numbers are useless.
		s.unusable = s.unusable || s.freeNumber == 0
		req.mustRenumber, err = !req.abandoned, nil
	case errors.Is(err, partd.ErrSessionExpired):
		s.unusable = true
		if req.sendCount == 1 {
			req.mustRenumber, err = !req.abandoned, nil
		} else {
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	case errors.Is(err, partd.ErrSessionReused):
		// For an abandoned change, this error is harmless: the client resent an empty change with
		// the same number, and the server had already applied the original.
		s.unusable = s.unusable || !req.abandoned
	default:
		if s.freeNumber == 0 || req.seq < s.freeNumber {
			s.freeNumber = req.seq
		}
	}
	switch {
	case s.freeNumber == 0 && !s.unusable:
	case s.unanswered > 0:
		if s.allAnswered == nil {
			s.allAnswered = make(chan struct{})
		}
	case s.unusable:
		s.renew()
	default:
		s.next, s.freeNumber = s.freeNumber, 0
		if s.allAnswered != nil {
			close(s.allAnswered)
			s.allAnswered = nil
		}
	}
	return err
}

// begin makes session the current one, with numbers from 1. It returns the session before the
// previous one, because all calls of that session have ended.
func (s *opSequence) begin(session uint64, storeKeeps bool) (ended uint64) {
	s.renew()
	ended = s.recentSessions[1]
	s.recentSessions = [2]uint64{session, s.recentSessions[0]}
	s.session, s.storeKeeps, s.next = session, storeKeeps, 1
	return ended
}

// assign gives a change or a pop its session and number. instance identifies the server process to
// which the call is sent first. If the call must wait, assign returns a channel that is closed when
// the caller may try again.
func (s *opSequence) assign(req *call, instance uint64) (wait <-chan struct{}) {
	switch {
	case s.session == 0: // the session was lost: the caller must create another one and try again at once
		closed := make(chan struct{})
		close(closed)
		return closed
	case req.isPop:
		s.lastPop++
		req.session, req.seq = s.session, s.lastPop
		req.setU64(req.instanceOffset, instance)
	case s.allAnswered != nil:
		return s.allAnswered
	default:
		req.session, req.seq = s.session, s.next
		s.next++
		s.unanswered++
	}
	return nil
}

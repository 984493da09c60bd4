package remote

import (
	"errors"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
)

// TestRepliesToChanges checks a client's session, numbers and errors after changes that failed.
func TestRepliesToChanges(t *testing.T) {
	newClient := func(changes int) (*callTable, []*call) {
		c := &callTable{unanswered: map[uint64]*call{}}
		c.ops.session, c.ops.next, c.ops.unanswered = 1, uint64(changes+1), changes
		calls := make([]*call, changes)
		for i := range calls {
			req := newCall(opAppend)
			req.isNumbered, req.session, req.seq, req.sendCount = true, 1, uint64(i+1), 1
			c.register(req)
			calls[i] = req
		}
		return c, calls
	}
	c, calls := newClient(3)
	for _, req := range calls {
		c.settle(req, syscall.ENOSPC)
	}
	if c.ops.next != 1 || c.ops.session != 1 {
		t.Errorf("after three failures, the next change has the number %d in session %d, want 1 in 1", c.ops.next, c.ops.session)
	}
	c, calls = newClient(1)
	c.settle(calls[0], partd.ErrUnknownOutcome)
	if c.ops.session != 0 {
		t.Error("the client uses its session after a change of unknown outcome")
	}
	c, calls = newClient(1)
	calls[0].sendCount = 2
	c.settle(calls[0], partd.ErrSessionExpired)
	if !errors.Is(calls[0].err, partd.ErrUnknownOutcome) || calls[0].mustRenumber {
		t.Errorf("a change that was sent twice and found its session expired: error %v, want ErrUnknownOutcome", calls[0].err)
	}
	c, calls = newClient(1)
	c.failAll(syscall.ECONNREFUSED)
	if !errors.Is(calls[0].err, partd.ErrUnknownOutcome) {
		t.Errorf("a change that was sent before the client gave up: error %v, want ErrUnknownOutcome", calls[0].err)
	}
}

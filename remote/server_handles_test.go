package remote

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// TestHandleLife checks that a handle is not evicted while its page is read, that no page can be read twice, and that
// idle handles are closed.
func TestHandleLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var q quotas
		q.init(&ServerOptions{Memory: 16 << 20, MaxConnections: 10, MaxHandles: 10})
		table := &handleTable{quotas: &q}
		peer := q.enter("peer")
		h := handles{table: table, tenant: peer, space: &space{store: partd.NewDict()}, open: map[uint64]*handle{}}
		idle := func() bool { return table.leastUsed(nil, peer) != nil }
		var closed atomic.Int32 // several timers close handles at once
		id, err := h.add(ctx, false, func(*answer) (bool, error) {
			time.Sleep(time.Second)
			if idle() {
				t.Error("a handle counts as idle while its page is read")
			}
			return true, nil
		}, func() error { closed.Add(1); return nil })
		must(t, err)
		must(t, h.read(&answer{}, id, 1))
		time.Sleep(time.Second)
		if !idle() {
			t.Error("a handle does not count as idle after its page was read")
		}
		if err := h.read(&answer{}, id, 1); !errors.Is(err, ErrLost) {
			t.Errorf("reading a page again = %v, want ErrLost", err)
		}
		_, err = h.add(ctx, false, nil, func() error { closed.Add(1); return nil })
		must(t, err)
		time.Sleep(handleIdle)
		synctest.Wait()
		if closed.Load() != 2 || len(h.open) > 0 {
			t.Errorf("%d of two idle handles were closed, and %d are open, want 2 and 0", closed.Load(), len(h.open))
		}
		h.close()
		if _, err := h.add(ctx, false, nil, func() error { closed.Add(1); return nil }); !errors.Is(err, ErrLost) || closed.Load() != 3 {
			t.Errorf("adding a handle to a closed connection = %v, want ErrLost; %d handles were closed, want 3", err, closed.Load())
		}
	})
}

// TestWaitingHandleStaysOpen checks that a handle that waited long for admission does not count as idle when it is
// admitted.
func TestWaitingHandleStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q quotas
		q.init(&ServerOptions{Memory: 16 << 20, MaxConnections: 10, MaxHandles: 1})
		table := &handleTable{quotas: &q, patience: time.Minute}
		peer := q.enter("peer")
		h := handles{table: table, tenant: peer, space: &space{store: partd.NewDict()}, open: map[uint64]*handle{}}
		closer := func() error { return nil }
		first, err := h.add(t.Context(), false, func(*answer) (bool, error) {
			time.Sleep(3 * slowAfter)
			return false, nil
		}, closer)
		must(t, err)
		go func() { _ = h.read(&answer{}, first, 1) }()
		synctest.Wait()
		begin := time.Now()
		_, err = h.add(t.Context(), false, nil, closer)
		must(t, err)
		if waited := time.Since(begin); waited < slowAfter || table.leastUsed(nil, nil) != nil {
			t.Errorf("after a wait of %v, the new handle counts as idle; want a wait of at least %v, and a handle that is not idle", waited, slowAfter)
		}
		h.close()
	})
}

// TestTokenOfUser checks that a session's token is valid only for the user to whom it was issued.
func TestTokenOfUser(t *testing.T) {
	token := storekit.NewSessionToken([]byte("secret"), 1)
	if tokenFor("a", token) == tokenFor("b", token) || tokenFor("a", token) == token {
		t.Error("two users have the same token for a session")
	}
}

// TestRepliesToChanges checks a client's session, numbers and errors after changes that failed.
func TestRepliesToChanges(t *testing.T) {
	newClient := func(changes int) (*Client, []*call) {
		c := &Client{calls: map[uint64]*call{}}
		c.ops.session, c.ops.next, c.ops.unanswered = 1, uint64(changes+1), changes
		calls := make([]*call, changes)
		for i := range calls {
			k := newCall(opAppend)
			k.isNumbered, k.session, k.seq, k.sendCount = true, 1, uint64(i+1), 1
			c.register(k)
			calls[i] = k
		}
		return c, calls
	}
	c, calls := newClient(3)
	for _, k := range calls {
		c.ops.handleReply(c, k, syscall.ENOSPC)
	}
	if c.ops.next != 1 || c.ops.session != 1 {
		t.Errorf("after three failures, the next change has the number %d in session %d, want 1 in 1", c.ops.next, c.ops.session)
	}
	c, calls = newClient(1)
	c.ops.handleReply(c, calls[0], partd.ErrUnknownOutcome)
	if c.ops.session != 0 {
		t.Error("the client uses its session after a change of unknown outcome")
	}
	c, calls = newClient(1)
	calls[0].sendCount = 2
	c.ops.handleReply(c, calls[0], partd.ErrSessionExpired)
	if !errors.Is(calls[0].err, partd.ErrUnknownOutcome) || calls[0].mustRenumber {
		t.Errorf("a change that was sent twice and found its session expired: error %v, want ErrUnknownOutcome", calls[0].err)
	}
	c, calls = newClient(1)
	c.failAll(syscall.ECONNREFUSED)
	if !errors.Is(calls[0].err, partd.ErrUnknownOutcome) {
		t.Errorf("a change that was sent before the client gave up: error %v, want ErrUnknownOutcome", calls[0].err)
	}
}

// failOnceStore fails its first append. It cannot keep sessions.
type failOnceStore struct {
	partd.Partd
	failed bool
}

func (s *failOnceStore) Append(ctx context.Context, entries ...partd.Entry) error {
	if !s.failed {
		s.failed = true
		return syscall.ENOSPC
	}
	return s.Partd.Append(ctx, entries...)
}

// TestRetryOfFailedOperation checks that an operation which failed does not count as applied.
func TestRetryOfFailedOperation(t *testing.T) {
	ctx := t.Context()
	_, url := serve(t, &failOnceStore{Partd: partd.NewDict()}, nil)
	c := dial(t, url, nil)
	session, err := c.NewSession(ctx)
	must(t, err)
	tag, op := partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}}
	if applied, err := c.Apply(ctx, tag, op); applied || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Apply to a full store = %v, %v, want ENOSPC", applied, err)
	}
	if applied, err := c.Apply(ctx, tag, op); !applied || err != nil {
		t.Fatalf("retry of the operation = %v, %v, want true", applied, err)
	}
}

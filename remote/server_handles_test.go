package remote

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHandleLife checks that a handle is not evicted while its page is read, that no page can be read twice, and that
// idle handles are closed.
func TestHandleLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var q budget
		q.init(&ServerOptions{Memory: 16 << 20, MaxConnections: 10, MaxHandles: 10})
		table := &handleTable{budget: &q}
		peer := q.acquire("peer")
		h := handles{table: table, tenant: peer, space: &space{store: partd.NewDict()}, open: map[uint64]*openHandle{}}
		idle := func() bool { return table.leastRecentlyUsed(nil, 0) != nil }
		var closed atomic.Int32 // several timers close handles at once
		id := must.Get(h.add(ctx, false, func(*answerBuilder) (bool, error) {
			time.Sleep(time.Second)
			if idle() {
				t.Error("a handle counts as idle while its page is read")
			}
			return true, nil
		}, func() error { closed.Add(1); return nil }))(t)
		must.Do(t, h.read(&answerBuilder{}, id, 1))
		time.Sleep(time.Second)
		if !idle() {
			t.Error("a handle does not count as idle after its page was read")
		}
		if err := h.read(&answerBuilder{}, id, 1); !errors.Is(err, ErrLost) {
			t.Errorf("reading a page again = %v, want ErrLost", err)
		}
		must.Get(h.add(ctx, false, nil, func() error { closed.Add(1); return nil }))(t)
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
		var q budget
		q.init(&ServerOptions{Memory: 16 << 20, MaxConnections: 10, MaxHandles: 1})
		table := &handleTable{budget: &q, patience: time.Minute}
		peer := q.acquire("peer")
		h := handles{table: table, tenant: peer, space: &space{store: partd.NewDict()}, open: map[uint64]*openHandle{}}
		closer := func() error { return nil }
		first := must.Get(h.add(t.Context(), false, func(*answerBuilder) (bool, error) {
			time.Sleep(3 * slowAfter)
			return false, nil
		}, closer))(t)
		go func() { _ = h.read(&answerBuilder{}, first, 1) }()
		synctest.Wait()
		begin := time.Now()
		must.Get(h.add(t.Context(), false, nil, closer))(t)
		if waited := time.Since(begin); waited < slowAfter || table.leastRecentlyUsed(nil, slowAfter) != nil {
			t.Errorf("after a wait of %v, the new handle counts as idle; want a wait of at least %v, and a handle that is not idle", waited, slowAfter)
		}
		h.close()
	})
}

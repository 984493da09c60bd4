package remote

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// statCounter is a store that counts calls to Stat.
type statCounter struct {
	*partd.Dict
	stats atomic.Int32
}

func (c *statCounter) Stat(ctx context.Context) (partd.Stats, error) {
	c.stats.Add(1)
	time.Sleep(200 * time.Millisecond) // a result is cached for ten times as long as Stat took
	return c.Dict.Stat(ctx)
}

// TestStatIsCached checks that many calls to Client.Stat cause only one call to the store's Stat,
// until the store changes or the result is too old.
func TestStatIsCached(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := &statCounter{Dict: partd.NewDict()}
	s, url := serve(t, store, nil)
	c, other := dial(t, url, nil), dial(t, url, nil)
	p := openPeer(t, url)
	keys := int64(0)
	check := func(label string) {
		before := store.stats.Load()
		var wg sync.WaitGroup
		for _, c := range []*Client{c, other, c, other} {
			wg.Go(func() {
				if st, err := c.Stat(ctx); err != nil || st.Keys != keys {
					t.Errorf("%s: Stat = %d keys, %v, want %d", label, st.Keys, err, keys)
				}
			})
		}
		wg.Wait()
		if n := store.stats.Load() - before; n != 1 {
			t.Errorf("%s: the store's Stat was called %d times, want once", label, n)
		}
	}
	check("the first call")
	must.Do(t, c.Append(ctx, entry("a", "v")))
	keys = 1
	check("after an append")
	p.send(message("append", "b", "v"))
	p.wantBytes(acked)
	keys = 2
	check("after Python's append")
	must.Get(c.Apply(ctx, partd.Tag{Session: requireSession(c.NewSession(ctx)), Number: 1}, partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{entry("c", "v")}}))(t)
	keys = 3
	check("after an operation of a session")
	must.Get(c.Pop(ctx, "a"))(t)
	keys = 2
	check("after a pop")
	if st, err := c.Stat(ctx); err != nil || st.Changes != 4 {
		t.Errorf("Stat = %d changes, %v, want 4: two appends, a set and a pop", st.Changes, err)
	}
	s.counting <- struct{}{}
	duration := s.duration
	<-s.counting
	time.Sleep(11 * duration)
	check("after the cached result has expired")
}

func requireSession(session uint64, err error) uint64 {
	if err != nil {
		panic(err)
	}
	return session
}

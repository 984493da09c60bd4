//go:build cgo && linux

package duck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/tablestest"
)

// growing is a statement whose process grows by more than smallGrowth.
const growing = "SELECT count(*) FROM (SELECT range AS a FROM range(2000000) GROUP BY a HAVING count(*) = 1)"

// run runs a statement, and returns an error if it fails.
func run(t *testing.T, s *tables.Store, sql string) error {
	t.Helper()
	r, err := s.Query(t.Context(), sql, nil)
	if err != nil {
		return err
	}
	_, err = tabletest.CountRows(r)
	return err
}

func newEngine(t *testing.T, o *Options) (*Engine, *tables.Store) {
	t.Helper()
	o.TempDir = t.TempDir()
	e := must.Get(New(o))(t)
	t.Cleanup(func() { _ = e.Close() })
	return e, tablestest.Open(t, &tables.Options{Engine: e})
}

// grownLeases returns the idle databases whose processes have grown.
func (e *Engine) grownLeases() leases {
	e.pool.mu.Lock()
	defer e.pool.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.pool.idle), func(d lease) bool { return !d.hasGrown })
}

// waitForGrown waits until the number of idle databases whose processes have grown is count.
func waitForGrown(t *testing.T, e *Engine, count int) leases {
	t.Helper()
	var all leases
	must.Eventually(t, 4*warmPeriod+10*time.Second, fmt.Sprintf("the number of idle databases that have grown is not %d", count), func() bool {
		all = e.grownLeases()
		return len(all) == count
	})
	return all
}

// TestWarmProcess checks that consecutive statements run in the same process even if it has grown, and that this
// process ends once it is idle.
func TestWarmProcess(t *testing.T) {
	e, s := newEngine(t, &Options{Processes: true})
	e.pool.prepareWait = time.Minute // on a busy machine, preparing a process for its next statement takes long
	must.Do(t, run(t, s, growing))
	first := waitForGrown(t, e, 1)[0].db
	for range 5 { // without a pause, because a grown process is kept only for a short time
		must.Do(t, run(t, s, growing))
	}
	if got := waitForGrown(t, e, 1)[0].db; got != first {
		t.Error("a statement ran in another process, want the warm one")
	}
	waitForGrown(t, e, 0)
	e.pool.background.Wait()
	if first.IsAlive() {
		t.Error("the process is still alive although it was idle")
	}
}

// TestWarmProcessesHaveALimit checks that the number of running statements plus the number of idle processes that have
// grown is at most Options.Queries, and that a process that has grown by more than its share is not kept.
func TestWarmProcessesHaveALimit(t *testing.T) {
	e, s := newEngine(t, &Options{Processes: true, Queries: 1})
	e.pool.prepareWait = time.Minute // as in TestWarmProcess
	must.Do(t, run(t, s, growing))
	first := waitForGrown(t, e, 1)[0].db
	r, err := s.Query(t.Context(), "SELECT * FROM range(10000000)", &tables.QueryOptions{Memory: 64 << 20}) // its options differ, so it cannot use the idle process
	must.Do(t, err)
	if got := len(e.grownLeases()); got != 0 {
		t.Errorf("%d idle processes have grown while a statement has the only slot, want none", got)
	}
	must.Eventually(t, time.Minute, "the process that had grown is still alive a minute after another statement took its slot", func() bool { return !first.IsAlive() })
	r.Release()

	e, s = newEngine(t, &Options{Processes: true, Queries: 1, Memory: 512 << 20, Total: 64 << 20})
	var kept atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
			kept.Store(kept.Load() || len(e.grownLeases()) > 0)
		}
	}()
	must.Do(t, run(t, s, strings.Replace(growing, "2000000", "500000", 1)))
	e.pool.background.Wait()
	cancel()
	<-done
	if kept.Load() {
		t.Error("a process was kept although it has grown by more than a query's share")
	}
}

// failing is a database whose statements fail because memory is exhausted.
type failing struct{ database.Runner }

func (failing) Start(context.Context, *database.Job) (database.Rows, error) {
	return nil, database.OutOfMemoryError(errors.New("a test"))
}

func (failing) Reuse() database.Reuse { return database.Reuse{} }

// TestWarmProcessLacksMemory checks that a statement runs in a fresh process if a process that has grown has too little
// memory for it. The fresh process must run it without Job.Spills, which would prevent the reuse of the process.
func TestWarmProcessLacksMemory(t *testing.T) {
	e, s := newEngine(t, &Options{Processes: true})
	must.Do(t, run(t, s, growing))
	waitForGrown(t, e, 1)
	e.pool.mu.Lock()
	for i, d := range e.pool.idle {
		if d.hasGrown {
			e.pool.idle[i].db = failing{d.db}
		}
	}
	e.pool.mu.Unlock()
	if err := run(t, s, growing); err != nil {
		t.Fatalf("the statement failed: %v", err)
	}
	if _, ok := waitForGrown(t, e, 1)[0].db.(failing); ok {
		t.Error("the statement ran in the process that has too little memory, want a fresh one")
	}
}

package commit

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// appender appends rows to a table's tail.
type appender struct {
	folder
	retain   func() (release func()) // keeps the entry in memory
	appends  appendQueue
	encoders sync.Pool // *tail.Encoder values for reuse
}

type appendAttempt struct {
	id        string // the put's ID, or ""
	holdsLock bool   // whether the attempt holds e.mu throughout
	inGroup   bool   // whether the append joins a group, which looks for changes in the catalog once for all its appends

	// State of the table when the rows were prepared.
	location string
	def      *definition.Definition
	rules    string // the bucket's rules

	frame        tail.Frame
	exists       bool // whether the table exists
	full         bool // the tail is full, so it must be folded before the append is retried
	tableChanged bool // the table has changed since the rows were prepared, so the append must be retried
	version      int64
	receipt      tail.Receipt
	err          error // from the write to the tail
}

// appendQueue groups concurrent appends to a table. While one group is being written and synced, the next one gathers.
// The appends in a group share one look at the catalog, one write to the tail and one sync.
type appendQueue struct {
	mu      sync.Mutex
	running bool         // whether a group is being written
	next    *appendGroup // nil if empty
}

type appendGroup struct {
	attempts []*appendAttempt
	done     chan struct{} // closed when the attempts have their results
}

// appendInGroup adds a's frame to the tail together with those of concurrent appends and syncs the tail. If no group is
// being written, it writes a's frame at once.
func (e *appender) appendInGroup(ctx context.Context, a *appendAttempt) error {
	q := &e.appends
	q.mu.Lock()
	if !q.running {
		q.running = true
		q.mu.Unlock()
		e.appendGroup(ctx, []*appendAttempt{a})
		if g := q.take(0, 0); g != nil {
			// The group's callers may give up and release the entry, so the goroutine needs its own reference.
			go e.appendGroups(g, e.retain()) // not in this goroutine, because the caller need not wait for others
		}
		return a.err
	}
	if q.next == nil {
		q.next = &appendGroup{done: make(chan struct{})}
	}
	g := q.next
	g.attempts = append(g.attempts, a)
	q.mu.Unlock()
	if err := canceled.Wait(ctx, g.done); err != nil {
		if q.remove(g, a) {
			return err
		}
		return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	return a.err
}

// appendGroups writes g and the groups that gather in the meantime. Then it releases the entry.
func (e *appender) appendGroups(g *appendGroup, release func()) {
	defer release()
	for g != nil {
		begin, size := time.Now(), len(g.attempts)
		e.appendGroup(context.Background(), g.attempts)
		duration := time.Since(begin)
		expected := size + e.appends.waiting()
		close(g.done)
		g = e.appends.take(expected, min(duration/2, maxGather))
	}
}

// appendGroup writes the attempts' frames to the tail, syncs it and sets the attempts' results.
func (e *appender) appendGroup(ctx context.Context, attempts []*appendAttempt) {
	e.tables.Appending.RLock()
	defer e.tables.Appending.RUnlock()
	err := parallel.Catch(func() error {
		last, err := e.writeGroup(ctx, slices.Clone(attempts))
		if err != nil {
			return err
		}
		return last.Sync(ctx)
	})
	if _, isPanic := err.(*parallel.Panic); isPanic { // some rows may already be in the tail; panics caused by bad metadata are caught earlier
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	for _, a := range attempts {
		if a.err == nil && !a.tableChanged {
			a.err = err
		}
	}
}

func (e *appender) writeGroup(ctx context.Context, attempts []*appendAttempt) (last tail.Receipt, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.refresh(ctx); err != nil {
		return last, err
	}
	return e.appendAll(ctx, attempts), nil
}

// maxGather is the maximum time that a group waits for further appends.
const maxGather = 500 * time.Microsecond

// take returns the next group, or nil if it is empty. It waits at most limit for the group to reach the expected number
// of appends, because the callers of the last group usually append again immediately. It yields instead of sleeping,
// because timers are too coarse.
func (q *appendQueue) take(expected int, limit time.Duration) *appendGroup {
	for begin := time.Now(); q.waiting() < expected && time.Since(begin) < limit; {
		runtime.Gosched()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	g := q.next
	q.next, q.running = nil, g != nil
	return g
}

func (q *appendQueue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		return 0
	}
	return len(q.next.attempts)
}

// remove removes an attempt from a group, unless the group is already being written.
func (q *appendQueue) remove(g *appendGroup, a *appendAttempt) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(g.attempts, a)
	if q.next != g || i < 0 {
		return false
	}
	g.attempts = slices.Delete(g.attempts, i, i+1)
	return true
}

// maxWrite limits the bytes of several appends that are written to the tail together.
const maxWrite = 1 << 20

// appendAll adds the frames of attempts to the tail, except those prepared before the table changed. It returns the
// last receipt and sets the attempts' results. e.mu must be held.
func (e *appender) appendAll(ctx context.Context, attempts []*appendAttempt) (last tail.Receipt) {
	attempts = slices.DeleteFunc(attempts, func(a *appendAttempt) bool {
		a.tableChanged = e.hasChanged(a)
		return a.tableChanged
	})
	if len(attempts) == 0 {
		return last
	}
	if e.log == nil {
		e.log = e.tables.Tail.Log(e.state.uuid, e.state.folded)
	}
	frames := make([]tail.Frame, 0, len(attempts))
	for size, start := 0, 0; start < len(attempts); size = 0 {
		frames = frames[:0]
		for _, a := range attempts[start:] {
			size += a.frame.Len()
			if size > maxWrite && len(frames) > 0 {
				break
			}
			a.frame.Version = e.newVersion()
			frames = append(frames, a.frame)
		}
		receipt, err := e.log.Append(ctx, frames, latest(time.Now(), e.state.updated))
		if err == nil {
			last = receipt
		}
		for _, a := range attempts[start : start+len(frames)] {
			a.version, a.receipt, a.err = a.frame.Version, receipt, err
		}
		start += len(frames)
	}
	if _, size, _, _ := e.log.Size(e.state.folded); size >= e.tables.FoldBytes {
		e.queueFold()
	}
	return last
}

// hasChanged reports whether the table has changed since the rows of a were prepared. e.mu must be held.
func (e *appender) hasChanged(a *appendAttempt) bool {
	return e.state.location != a.location || e.bucketRules != a.rules
}

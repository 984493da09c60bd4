//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// A worker process keeps the memory that its statements used, which makes its next statement faster. A process that
// has grown by more than smallGrowth is replaced between one and two warmPeriods after its last statement.
const (
	smallGrowth = 32 << 20
	warmPeriod  = 2 * time.Second
)

// pool lends databases to statements and keeps some of them for later statements.
type pool struct {
	opener      *opener
	maxGrowth   int64         // in bytes; a process that has grown by more than this and smallGrowth is not used again
	slots       chan struct{} // has one element for each running query
	prepareWait time.Duration // how long take waits for a database that is being prepared; tests raise it
	permits     permits

	background sync.WaitGroup
	closed     context.Context // canceled by close
	markClosed context.CancelFunc

	mu        sync.Mutex
	idle      leases
	preparing leases // databases that are being prepared for their next statement
	opening   int    // number of databases that replace is opening
	hasTimer  bool   // whether a timer will call replaceCold
}

// newPool returns a pool of databases with directories in dir. Each query may use share bytes without borrowing.
func newPool(o *Options, dir string, share int64, slots chan struct{}) *pool {
	p := &pool{
		opener:      newOpener(o, dir),
		maxGrowth:   share,
		slots:       slots,
		prepareWait: 10 * time.Millisecond,
		permits:     permits{held: make(chan struct{}, max(maxIdle/2, runtime.GOMAXPROCS(0)/2))},
	}
	p.closed, p.markClosed = context.WithCancel(context.Background())
	return p
}

// take leases a database that has run no statements yet, or only statements with the given key (see lease.key).
func (p *pool) take(ctx context.Context, key string, c class) (lease, error) {
	if c != crowded {
		p.awaitPrepared(ctx, key)
	}
	for {
		p.mu.Lock()
		var l lease
		if i := p.idle.choose(key, c); i >= 0 && !p.isClosed() {
			l = p.idle.remove(i)
			l.wasIdle = true
		}
		excess := p.removeExcess()
		p.mu.Unlock()
		excess.close()
		if l.db == nil {
			break
		}
		if l.db.IsAlive() {
			return l, nil
		}
		l.db.Close()
	}
	if c != crowded { // open it with normal priority, so that it can be reused
		ctx = worker.WithCaller(ctx, "", func() bool { return false })
	}
	if p.isClosed() {
		return lease{}, tables.ErrClosed
	}
	db, err := p.opener.open(ctx)
	return lease{db: db}, err
}

// If the only used database that can run a statement with the given key is still being prepared, awaitPrepared waits
// for it briefly. Preparing takes a millisecond or two. An unused database would have to read the files' footers again.
func (p *pool) awaitPrepared(ctx context.Context, key string) {
	canRun := func(l lease) bool { return l.canRun(key) }
	p.mu.Lock()
	i := slices.IndexFunc(p.preparing, canRun)
	if i < 0 || slices.ContainsFunc(p.idle, canRun) {
		p.mu.Unlock()
		return
	}
	ready := p.preparing[i].ready
	p.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
	case <-time.After(p.prepareWait):
	}
}

// give ends a lease. The database becomes idle or is closed. If hasPermit, give then ends a permit.
func (p *pool) give(l lease, hasPermit bool) {
	if !p.opener.hasProcesses {
		p.prepare(l, hasPermit)
		return
	}
	// Prepare it in the background, because preparing waits for the database's process.
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed() {
		l.db.Close()
		return
	}
	l.ready = make(chan struct{})
	p.preparing = append(p.preparing, l)
	p.background.Go(func() { p.prepare(l, hasPermit) })
}

// prepare makes a database idle if it can run another statement.
func (p *pool) prepare(l lease, hasPermit bool) {
	if hasPermit {
		defer p.permits.end()
	}
	var reuse database.Reuse
	if l.key != "" {
		reuse = l.db.Reuse()
	}
	l.hasGrown, l.idleSince = reuse.Growth > smallGrowth, time.Now()
	isReusable := reuse.IsPossible && (!l.hasGrown || reuse.Growth <= p.maxGrowth)
	p.mu.Lock()
	if l.ready != nil {
		close(l.ready) // wakes the waiters, which then block until mu is released
		p.preparing = slices.DeleteFunc(p.preparing, func(other lease) bool { return other.ready == l.ready })
	}
	if p.isClosed() {
		p.mu.Unlock()
		l.db.Close()
		return
	}
	surplus := l.db
	if isReusable {
		surplus = p.idle.add(l, p.opening)
		p.startTimer()
	}
	excess := p.removeExcess()
	p.replace(surplus)
	p.mu.Unlock()
	excess.close()
}

// replace closes old, unless it is nil. If fewer than maxIdle databases are idle, replace reopens old, or opens one, in
// the background, because opening takes longer than a small statement. mu must be held, and the pool must be open.
func (p *pool) replace(old database.Runner) {
	if len(p.idle)+p.opening >= maxIdle {
		if old != nil {
			p.background.Go(old.Close)
		}
		return
	}
	p.opening++
	dir := p.opener.newDir()
	p.background.Go(func() {
		unused := p.opener.openUnused(p.closed, old, dir)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opening--
		if unused != nil {
			p.idle = append(p.idle, lease{db: unused})
		}
	})
}

// removeExcess limits the memory of idle databases whose processes have grown. It removes the oldest of these databases
// until their number plus the number of running statements is at most Options.Queries. mu must be held.
func (p *pool) removeExcess() leases {
	excess := len(p.slots) + p.idle.countGrown() - cap(p.slots)
	return p.idle.removeGrown(func(lease) bool {
		excess--
		return excess >= 0
	})
}

// replaceCold replaces idle databases whose processes have grown and have run no statement for warmPeriod.
func (p *pool) replaceCold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed() {
		return
	}
	for _, l := range p.idle.removeGrown(func(l lease) bool { return time.Since(l.idleSince) >= warmPeriod }) {
		p.replace(l.db)
	}
	p.hasTimer = false
	p.startTimer()
}

// startTimer makes replaceCold run after warmPeriod if an idle database's process has grown. mu must be held.
func (p *pool) startTimer() {
	if !p.hasTimer && p.idle.countGrown() > 0 {
		p.hasTimer = true
		time.AfterFunc(warmPeriod, p.replaceCold)
	}
}

func (p *pool) isClosed() bool { return p.closed.Err() != nil }

// close closes the idle databases. It reports whether the pool was open.
func (p *pool) close() bool {
	p.mu.Lock()
	wasOpen := !p.isClosed()
	p.markClosed()
	p.mu.Unlock()
	if wasOpen {
		p.background.Wait()
		p.idle.close()
	}
	return wasOpen
}

// opener opens databases. Each has a directory for data that exceeds its memory.
type opener struct {
	limits       *database.Options
	parent       string // contains the databases' directories
	hasProcesses bool   // whether each database has its own process
	count        atomic.Int64
	openIn       func(ctx context.Context, dir string) (database.Runner, error)
}

func newOpener(o *Options, parent string) *opener {
	limits := &database.Options{Memory: o.Memory, MaxTemp: o.MaxTemp, Threads: o.Threads}
	p := &opener{limits: limits, parent: parent, hasProcesses: o.Processes}
	p.openIn = func(ctx context.Context, dir string) (database.Runner, error) {
		if p.hasProcesses {
			return database.OpenProcess(ctx, limits, dir)
		}
		return database.Open(limits, dir)
	}
	return p
}

func (o *opener) newDir() string {
	return filepath.Join(o.parent, fmt.Sprintf("spill-%d", o.count.Add(1)))
}

func (o *opener) open(ctx context.Context) (database.Runner, error) { return o.openIn(ctx, o.newDir()) }

// openUnused returns an unused database. It reopens old in dir if it can, and otherwise opens a new database. On
// failure, it returns nil; the next statement then opens a database itself and returns the error.
func (o *opener) openUnused(ctx context.Context, old database.Runner, dir string) database.Runner {
	const pause = 5 * time.Millisecond // gives a waiting statement, or Close, time to go first
	if old != nil {
		if old.Reopen(o.limits, dir) {
			return old
		}
		old.Close()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(pause):
	}
	unused, err := o.open(context.Background())
	if err != nil {
		return nil
	}
	if unused.Ready(ctx) != nil {
		unused.Close()
		return nil
	}
	return unused
}

package remote

import (
	"container/list"
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// budget divides the server's memory among connections. The mu of its quotas guards it.
type budget struct {
	quotas

	accounts map[*account]struct{}
	queue    queue
	peak     int64 // recent maximum of used[memory]
	// releasePending is set while a timer is waiting to call releaseMemory.
	releasePending bool
	elder          *account // the one growing account that may always grow further (see growth), or nil
	grownBytes     int64    // bytes held by the other growing accounts

	// The fields below can be read without mu.
	inUse                atomic.Int64 // copy of used[memory]
	waitCount, waitNanos atomic.Int64 // number of waits for memory, and their total duration in nanoseconds

	reap func() // closes the least recently used reader if it is idle
}

// queue describes the requests waiting for memory. The tenants' lists hold the requests themselves.
// quotas.mu guards both.
type queue struct {
	waiting   int
	arrivals  uint64               // number of requests so far
	tenants   map[*tenant]struct{} // tenants with waiting requests
	lastGrant time.Time
	isTicking bool // a timer will call tick
}

// waiter is a request for memory.
type waiter struct {
	account  *account
	arrival  uint64
	position *list.Element // element of the tenant's list of requests with this demand
	bytes    int64
	demand   demand
	since    time.Time
	done     chan struct{} // closed when the request is granted or fails
	err      error
}

// account counts the memory that a connection holds.
type account struct {
	budget    *budget
	tenant    *tenant
	maxWait   time.Duration // maximum time that a request for memory may wait
	evict     func()        // closes the connection
	received  func() int64  // returns the bytes that have arrived; the field is guarded by quotas.mu
	sent      atomic.Int64  // bytes that the peer has received
	pins      atomic.Int32  // number of running changes and of waits for a handle, during which the connection must not be evicted
	preparing atomic.Int32  // number of answers in preparation, which the peer cannot speed up

	waitPermit semaphore // held by the one answer that may wait for its first memory

	// The fields below are guarded by quotas.mu.
	heldBytes    int64
	messageBytes int64   // bytes held for messages whose requests are not yet answered; included in heldBytes
	lastProgress int64   // progress() when it had last grown by slowBytes, or when the account last got memory
	idleTicks    int     // number of ticks since lastProgress was set
	growing      bool    // the account holds memory for a message with more frames to come (see growth)
	waiting      int     // number of waiting requests for memory and of other reasons to wait (see addWaits)
	growth       *waiter // the waiting request whose demand is growth, or nil
	evicted      bool
}

func (b *budget) init(o *ServerOptions) {
	b.quotas.init(o)
	b.accounts = map[*account]struct{}{}
	b.queue.tenants = map[*tenant]struct{}{}
}

// isCrowded reports whether more than an eighth of the memory is in use.
func (b *budget) isCrowded() bool { return b.inUse.Load() > b.limit[memory]/8 }

// releaseAfter is how long memory use must stay low before releaseMemory returns memory to the
// operating system.
const releaseAfter = time.Second

// releaseMemory returns memory to the operating system after a period of high use. Otherwise the
// process might keep that memory until a garbage collection minutes later.
func (b *budget) releaseMemory() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.releasePending = b.peak > b.limit[memory]/8
	if b.releasePending {
		b.peak = b.used[memory]
		time.AfterFunc(releaseAfter, b.releaseMemory)
		return
	}
	go debug.FreeOSMemory()
}

// pageSize returns the page size for answers, at most maxSize. The size decreases as memory fills up,
// so that the pages of many slow clients cannot use all memory.
func (b *budget) pageSize(maxSize int) int {
	unused := b.limit[memory]*3/8 - b.inUse.Load()
	return min(maxSize, max(int(unused/8), minPage))
}

// addMemory adds n, which may be negative, to the memory that a tenant holds, even beyond the limit.
// mu must be held.
func (b *budget) addMemory(t *tenant, n int64) {
	b.count(t, memory, n)
	b.inUse.Store(b.used[memory])
	b.peak = max(b.peak, b.used[memory])
	if b.peak > b.limit[memory]/8 && !b.releasePending {
		b.releasePending = true
		time.AfterFunc(releaseAfter, b.releaseMemory)
	}
	if n < 0 {
		b.grant()
	}
}

// tryHandle counts a new handle (a reader or a listing), or returns the exhausted resource. If no
// other handle is open, tryHandle ignores the limit on handleBytes.
func (b *budget) tryHandle(t *tenant, bytes int64) (full resource, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.used[openHandles] >= b.limit[openHandles]:
		return openHandles, false
	case b.used[openHandles] > 0 && b.used[handleBytes]+bytes > b.limit[handleBytes]:
		return handleBytes, false
	}
	b.countHandle(t, 1, bytes)
	return 0, true
}

func (b *budget) dropHandle(t *tenant, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.countHandle(t, -1, -bytes)
}

// countHandle adds n handles, which may be negative, and their memory. mu must be held.
func (b *budget) countHandle(t *tenant, n, bytes int64) {
	b.count(t, handleBytes, bytes)
	b.addMemory(t, bytes)
	b.count(t, openHandles, n)
}

// newAccount returns the account for a new connection.
func (b *budget) newAccount(t *tenant, maxWait time.Duration, evict func()) *account {
	a := &account{
		budget: b, tenant: t, maxWait: maxWait, evict: evict,
		received: func() int64 { return 0 }, waitPermit: make(semaphore, 1),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts[a] = struct{}{}
	return a
}

// close removes an account, which must hold no memory.
func (a *account) close() {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	delete(a.budget.accounts, a)
}

func (a *account) progress() int64 { return a.received() + a.sent.Load() }

// restartIdleTime restarts the peer's idle time. mu must be held.
func (a *account) restartIdleTime() { a.lastProgress, a.idleTicks = a.progress(), 0 }

// markGrowing records that an account's message is growing. If there is no elder, the account
// becomes the elder. mu must be held.
func (b *budget) markGrowing(a *account) {
	switch {
	case b.elder == nil:
		b.elder = a
		if a.growing {
			b.grownBytes -= a.heldBytes
		}
	case !a.growing:
		b.grownBytes += a.heldBytes
	}
	a.growing = true
}

// charge adds bytes, which may be negative, to the memory that an account holds. mu must be held.
func (b *budget) charge(a *account, bytes int64) {
	if bytes > 0 {
		a.restartIdleTime()
	}
	a.heldBytes += bytes
	if a.growing && b.elder != a {
		b.grownBytes += bytes
	}
	if a.growing && bytes < 0 && a.heldBytes <= maxPooledBuffer+freeBytes {
		a.growing = false
		if b.elder == a {
			b.elder = nil
		} else {
			b.grownBytes -= a.heldBytes
		}
	}
	b.addMemory(a.tenant, bytes)
}

// force charges bytes of memory that is already allocated, even beyond the limit.
func (a *account) force(bytes int64) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.budget.charge(a, bytes)
}

func (a *account) give(bytes int64) { a.force(-bytes) }

// addWaits adds n, which may be negative, to the number of things that the account waits for. While
// it waits for any, a lack of progress is not the peer's fault.
func (a *account) addWaits(n int) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.waiting += n
}

// takeMessage takes memory for a message. The account holds it until the request is answered.
func (a *account) takeMessage(ctx context.Context, bytes int64, d demand) error {
	err := a.take(ctx, bytes, d)
	if err != nil {
		return err
	}
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.messageBytes += bytes
	return nil
}

func (a *account) giveMessage(bytes int64) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.messageBytes -= bytes
	a.budget.charge(a, -bytes)
}

package remote

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// resource is a resource that tenants share.
type resource int

const (
	memory        resource = iota // bytes of messages, answers and open handles
	connections                   // open connections
	openHandles                   // open readers and listings
	handleBytes                   // bytes of open handles, a part of memory
	knownSessions                 // sessions that the server remembers
	popBytes                      // bytes of retained results of Pop
	resources
)

// tenant is a peer (an address, or the user of a Unix socket) with its use of resources.
// All connections of a peer share one tenant.
type tenant struct {
	name string
	refs int // number of connections
	used [resources]int64

	turnMu       sync.Mutex // held while takeTurn runs
	messageCount uint       // number of calls of takeTurn; guarded by turnMu
	turns        semaphore  // limits slow operations
	large        semaphore  // limits changes of more than manyKeys keys

	waiting     [demands]list.List // waiting requests for memory, by demand
	waiterCount int                // number of requests in the waiting lists

	sessions forgettable // guarded by sessions.mu
}

// quotas divides the server's resources fairly among tenants. While a resource lasts, each tenant
// gets what it requests. Once the resource is exhausted, a tenant with less than its fair share
// evicts something of the heaviest tenant, which holds the most of the resource.
type quotas struct {
	limit [resources]int64

	mu      sync.Mutex // locked last, after any other mutex of the server
	used    [resources]int64
	tenants map[string]*tenant
	queue   queue // requests for memory

	waitCount, waitNanos atomic.Int64 // number of waits for memory, and their total duration in nanoseconds

	inUse          atomic.Int64 // copy of used[memory] that is read without mu
	peak           int64        // recent maximum of used[memory]
	releasePending bool         // a timer will call releaseMemory
}

func (l *quotas) init(o *ServerOptions) {
	l.limit = [resources]int64{
		memory: o.Memory, connections: int64(o.MaxConnections), openHandles: int64(o.MaxHandles),
		handleBytes: o.Memory / 4, knownSessions: maxSessions, popBytes: o.Memory / 4,
	}
	l.tenants = map[string]*tenant{}
	l.queue = queue{accounts: map[*account]struct{}{}, tenants: map[*tenant]struct{}{}}
}

// isCrowded reports whether more than an eighth of the memory is in use.
func (l *quotas) isCrowded() bool { return l.inUse.Load() > l.limit[memory]/8 }

// releaseAfter is how long memory use must stay low before releaseMemory returns memory to the
// operating system.
const releaseAfter = 2 * time.Second

// releaseMemory returns memory to the operating system after a period of high use. Otherwise the
// process might keep it until a garbage collection minutes later.
func (l *quotas) releaseMemory() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.releasePending = l.peak > l.limit[memory]/8; l.releasePending {
		l.peak = l.used[memory]
		time.AfterFunc(releaseAfter, l.releaseMemory)
		return
	}
	go debug.FreeOSMemory()
}

// pageSize returns the page size for answers, at most maxSize. The size decreases as memory fills up.
// Otherwise the pages of many slow clients could use all memory.
func (l *quotas) pageSize(maxSize int) int {
	unused := l.limit[memory]*3/8 - l.inUse.Load()
	return min(maxSize, max(int(unused/8), minPage))
}

func (l *quotas) enter(name string) *tenant {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tenants[name]
	if s == nil {
		s = &tenant{name: name, turns: make(semaphore, maxTurns), large: make(semaphore, 1)}
		l.tenants[name] = s
	}
	s.refs++
	return s
}

func (l *quotas) leave(s *tenant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.refs--
	l.forget(s)
}

// forget removes a tenant if it has no connection and holds nothing. mu must be held.
func (l *quotas) forget(s *tenant) {
	if s.refs == 0 && s.used == [resources]int64{} {
		delete(l.tenants, s.name)
	}
}

// add adds n, which may be negative, to the amount that a tenant holds, even beyond the limit.
func (l *quotas) add(s *tenant, r resource, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addLocked(s, r, n)
}

func (l *quotas) addLocked(s *tenant, r resource, n int64) {
	l.used[r] += n
	s.used[r] += n
	if r == memory {
		l.inUse.Store(l.used[r])
		if l.peak = max(l.peak, l.used[r]); l.peak > l.limit[r]/8 && !l.releasePending {
			l.releasePending = true
			time.AfterFunc(releaseAfter, l.releaseMemory)
		}
	}
	if n < 0 {
		l.forget(s)
		if r == memory {
			l.grant()
		}
	}
}

// tryAdd is like add, but adds nothing and returns false if that would exceed the limit.
func (l *quotas) tryAdd(s *tenant, r resource, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used[r]+n > l.limit[r] {
		return false
	}
	l.addLocked(s, r, n)
	return true
}

// tryHandle adds a reader or a listing, or returns the exhausted resource. If no other handle is
// open, tryHandle ignores the limit of handleBytes.
func (l *quotas) tryHandle(s *tenant, bytes int64) (full resource, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.used[openHandles] >= l.limit[openHandles]:
		return openHandles, false
	case l.used[openHandles] > 0 && l.used[handleBytes]+bytes > l.limit[handleBytes]:
		return handleBytes, false
	}
	l.addHandle(s, 1, bytes)
	return 0, true
}

func (l *quotas) hasOneHandle(s *tenant) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.used[openHandles] == 1
}

func (l *quotas) dropHandle(s *tenant, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addHandle(s, -1, -bytes)
}

func (l *quotas) addHandle(s *tenant, n, bytes int64) {
	l.addLocked(s, handleBytes, bytes)
	l.addLocked(s, memory, bytes)
	l.addLocked(s, openHandles, n)
}

// messagesPerTurn is the number of messages after which a tenant yields to the scheduler.
const messagesPerTurn = 8

// takeTurn waits until a connection of the tenant may handle its next message. It limits the number
// of the tenant's goroutines in the scheduler's queue. Otherwise the other tenants would wait for
// hundreds of goroutines of one tenant.
func (s *tenant) takeTurn() {
	s.turnMu.Lock()
	defer s.turnMu.Unlock()
	if s.messageCount++; s.messageCount%messagesPerTurn == 0 {
		runtime.Gosched()
	}
}

// manyKeys is the number of keys above which a change counts as large. A large change keeps a
// processor busy for long, so each tenant may run only one at a time.
const manyKeys = 1 << 14

// maxTurns is the maximum number of concurrent slow operations of a tenant, for example listings
// that cause a flush.
const maxTurns = 2

// semaphore has as many permits as the channel's capacity.
type semaphore chan struct{}

func (p semaphore) acquire(ctx context.Context) error {
	return canceled.Send(ctx, p, struct{}{})
}

func (p semaphore) release() { <-p }

// heaviest returns the tenant that must give up some of r so that s can get n more: the tenant that
// holds the most. It returns s itself if n more would exceed the fair share of s, or make s the
// heaviest.
func (l *quotas) heaviest(r resource, s *tenant, n int64) *tenant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heaviestLocked(r, s, n)
}

func (l *quotas) heaviestLocked(r resource, s *tenant, n int64) *tenant {
	heaviest, holders := s, int64(1)
	for _, o := range l.tenants {
		if o != s && o.used[r] > 0 {
			holders++
		}
		if o.used[r] > heaviest.used[r] {
			heaviest = o
		}
	}
	if s.used[r]+n > max(l.limit[r]/holders, 1) || s.used[r]+n > heaviest.used[r] {
		return s
	}
	return heaviest
}

// peerOf returns the name of a connection's tenant: the user of a Unix socket, or an address. An
// IPv6 address stands for its /64 network, because one host usually controls all of it.
func peerOf(nc net.Conn) string {
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		ip := a.AddrPort().Addr().Unmap()
		if ip.Is6() {
			if network, err := ip.WithZone("").Prefix(64); err == nil {
				return network.String()
			}
		}
		return ip.String()
	case *net.UnixAddr:
		return userOf(nc)
	}
	return netip.Addr{}.String()
}

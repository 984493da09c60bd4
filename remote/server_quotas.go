package remote

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
)

// resource is a resource that tenants share.
type resource int

const (
	memory        resource = iota // bytes of messages, answers and open handles
	connections                   // open connections
	openHandles                   // open readers and listings
	handleBytes                   // bytes of open handles; included in memory
	knownSessions                 // sessions that the server remembers
	popBytes                      // bytes of retained Pop results
	numResources
)

// demand is the purpose of a request for memory. It determines how much memory must remain free.
type demand int

const (
	// admission is for a message that needs no more memory after this to arrive completely.
	admission demand = iota
	// growth is for a message of several frames, which holds memory while it waits for the memory of
	// its next frame. The server limits the total memory of such messages, so that at least one can
	// always finish: the message of the elder, the one account that may always grow (see markGrowing).
	growth
	// finish is for answering a message. Answers free memory when they complete, so the server keeps a
	// reserve for them.
	finish
	numDemands
)

// tenant is a peer (an address or the user of a Unix socket) and the amount of each resource that it
// uses. All connections of a peer share one tenant.
type tenant struct {
	name string
	refs int // number of connections
	used [numResources]int64

	turnMu       sync.Mutex // held while takeTurn runs
	messageCount uint       // number of calls to takeTurn; guarded by turnMu
	turns        semaphore  // limits slow operations
	large        semaphore  // limits changes of more than manyKeys keys

	waiting     [numDemands]list.List // waiting requests for memory, by demand
	waiterCount int                   // number of requests in the waiting lists

	sessions forgettable // guarded by sessions.mu
}

// forgettable lists the sessions of a tenant that the server may forget, oldest first.
type forgettable struct {
	unused     list.List // sessions that were never used and are not open on any connection
	openUnused list.List // sessions that were never used, but are open on a connection
	closedUsed list.List // used sessions that are not open on any connection
}

// quotas counts how much of each resource every tenant holds and limits the totals.
type quotas struct {
	limit [numResources]int64

	mu      sync.Mutex // locked last, after any other mutex of the server
	used    [numResources]int64
	tenants map[string]*tenant
}

func (q *quotas) init(o *ServerOptions) {
	q.limit = [numResources]int64{
		memory: o.Memory, connections: int64(o.MaxConnections), openHandles: int64(o.MaxHandles),
		handleBytes: o.Memory / 4, knownSessions: maxSessions, popBytes: o.Memory / 4,
	}
	q.tenants = map[string]*tenant{}
}

// acquire returns the named tenant for a new connection. The connection must call release when
// it ends.
func (q *quotas) acquire(name string) *tenant {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.tenants[name]
	if t == nil {
		t = &tenant{name: name, turns: make(semaphore, maxSlowOps), large: make(semaphore, 1)}
		q.tenants[name] = t
	}
	t.refs++
	return t
}

func (q *quotas) release(t *tenant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.refs--
	q.forget(t)
}

// forget removes a tenant if it has no connection and holds nothing. mu must be held.
func (q *quotas) forget(t *tenant) {
	if t.refs == 0 && t.used == [numResources]int64{} {
		delete(q.tenants, t.name)
	}
}

// count adds n, which may be negative, to the amount that a tenant holds, even beyond the limit. mu
// must be held. For memory, use budget.addMemory.
func (q *quotas) count(t *tenant, r resource, n int64) {
	q.used[r] += n
	t.used[r] += n
	if n < 0 {
		q.forget(t)
	}
}

// add calls count, for callers that do not hold mu.
func (q *quotas) add(t *tenant, r resource, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count(t, r, n)
}

// tryAdd is like add, but adds nothing and returns false if that would exceed the limit.
func (q *quotas) tryAdd(t *tenant, r resource, n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used[r]+n > q.limit[r] {
		return false
	}
	q.count(t, r, n)
	return true
}

// messagesPerTurn is the number of messages after which a tenant yields to the scheduler.
const messagesPerTurn = 8

// takeTurn counts a message from the tenant and, at every messagesPerTurn-th message, yields to the
// scheduler. It holds turnMu while it yields, so the tenant's other connections wait for the mutex
// rather than in the scheduler's queue. Otherwise other tenants would wait for hundreds of goroutines
// of one tenant.
func (t *tenant) takeTurn() {
	t.turnMu.Lock()
	defer t.turnMu.Unlock()
	t.messageCount++
	if t.messageCount%messagesPerTurn == 0 {
		runtime.Gosched()
	}
}

// manyKeys is the number of keys above which a change counts as large. A large change keeps a
// processor busy for a long time, so each tenant may run only one at a time.
const manyKeys = 1 << 14

// maxSlowOps is the maximum number of slow operations that a tenant may run at a time, for example
// listings that cause a flush.
const maxSlowOps = 2

// semaphore has as many permits as the channel's capacity.
type semaphore chan struct{}

func (p semaphore) acquire(ctx context.Context) error {
	return canceled.Send(ctx, p, struct{}{})
}

func (p semaphore) release() { <-p }

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

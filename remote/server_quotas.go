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

	"github.com/go-partd/partd/internal/canceled"
)

// resource is what peers share.
type resource int

const (
	memory        resource = iota // bytes of messages, answers and open handles
	connections                   // that are open
	openHandles                   // readers and listings
	handleBytes                   // of memory, for those
	knownSessions                 // sessions
	popBytes                      // bytes of results that are kept
	resources
)

// tenant is a peer with what it holds: an address, or a user where a Unix
// socket tells it: who opens a thousand connections is one peer all the same.
type tenant struct {
	name string
	refs int // connections that may come to hold something
	used [resources]int64

	queue sync.Mutex // held by the connection whose message begins next
	begun uint       // messages that have begun so, guarded by queue
	turns semaphore  // of its slow operations under way
	large semaphore  // of its changes of very many keys, one at a time

	waiting [demands]list.List // for memory
	waits   int                // how many

	sessions forgettable // guarded by the mu of sessions
}

// quotas divide what there is fairly among peers. Who wants something gets
// it as long as there is some. Where there is none, a peer that has less than its
// fair share takes the place of the one that has most.
type quotas struct {
	limit [resources]int64

	mu      sync.Mutex // taken last, after any other of the server
	used    [resources]int64
	tenants map[string]*tenant
	queue   queue // for memory, the one thing that is waited for

	waits, waited atomic.Int64 // for memory: how many there were, and for how long

	inUse   atomic.Int64 // of the memory, for who need not know it to the byte
	peak    int64        // the most of it in use, of late
	calming bool         // a timer is set
}

func (l *quotas) init(o *ServerOptions) {
	l.limit = [resources]int64{
		memory: o.Memory, connections: int64(o.MaxConnections), openHandles: int64(o.MaxHandles),
		handleBytes: o.Memory / 4, knownSessions: maxSessions, popBytes: o.Memory / 4,
	}
	l.tenants = map[string]*tenant{}
	l.queue = queue{accounts: map[*account]struct{}{}, tenants: map[*tenant]struct{}{}}
}

// crowded reports whether an eighth of the memory is in use.
func (l *quotas) crowded() bool { return l.inUse.Load() > l.limit[memory]/8 }

// calmAfter is for how long little memory is in use until the system gets back what was.
const calmAfter = 2 * time.Second

// calm gives memory back to the system, once a rush is over: the next collection may be
// minutes away.
func (l *quotas) calm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calming = l.peak > l.limit[memory]/8; l.calming {
		l.peak = l.used[memory]
		time.AfterFunc(calmAfter, l.calm)
		return
	}
	go debug.FreeOSMemory()
}

// page is how large a page may be: the less memory there is, the smaller, so that
// many who take none of theirs leave some for others.
func (l *quotas) page(most int) int {
	left := l.limit[memory]*3/8 - l.inUse.Load()
	return min(most, max(int(left/8), minPage))
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

// forget removes a peer that holds nothing. mu is held.
func (l *quotas) forget(s *tenant) {
	if s.refs == 0 && s.used == [resources]int64{} {
		delete(l.tenants, s.name)
	}
}

// add changes what a peer holds, whether there is so much or not.
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
		if l.peak = max(l.peak, l.used[r]); l.peak > l.limit[r]/8 && !l.calming {
			l.calming = true
			time.AfterFunc(calmAfter, l.calm)
		}
	}
	if n < 0 {
		l.forget(s)
		if r == memory {
			l.grant()
		}
	}
}

// tryAdd adds what there is, or nothing.
func (l *quotas) tryAdd(s *tenant, r resource, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used[r]+n > l.limit[r] {
		return false
	}
	l.addLocked(s, r, n)
	return true
}

// tryHandle adds a reader or a listing, or says of what there is too little. One
// that takes more than all may have is alone.
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

// peerMessages is how many messages of a peer may begin in a turn of the
// scheduler.
const peerMessages = 8

// takeTurn waits until a message of a peer's connection may begin. Only so many of a
// peer stand in the scheduler's queue at a time, and not each of its connections:
// with hundreds of them, others would wait for all of those, each time.
func (s *tenant) takeTurn() {
	s.queue.Lock()
	defer s.queue.Unlock()
	if s.begun++; s.begun%peerMessages == 0 {
		runtime.Gosched()
	}
}

// manyKeys is from how many keys on a change has a processor work for a while. One at
// a time of a peer does.
const manyKeys = 1 << 14

// maxTurns is how many operations that make a store work hard, as a listing that
// makes it flush, run at a time for one peer. Others get their turns beside them.
const maxTurns = 2

// semaphore are so many as the channel holds. Who wants one waits for it.
type semaphore chan struct{}

func (p semaphore) acquire(ctx context.Context) error {
	return canceled.Send(ctx, p, struct{}{})
}

func (p semaphore) release() { <-p }

// heaviest returns the peer that has to make room for another, which wants so
// much more: the one that has most, where the other would not have more than it.
// Where that is the peer itself, it has to make room among its own.
func (l *quotas) heaviest(r resource, s *tenant, n int64) *tenant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heaviestLocked(r, s, n)
}

func (l *quotas) heaviestLocked(r resource, s *tenant, n int64) *tenant {
	most, holders := s, int64(1)
	for _, o := range l.tenants {
		if o != s && o.used[r] > 0 {
			holders++
		}
		if o.used[r] > most.used[r] {
			most = o
		}
	}
	if s.used[r]+n > max(l.limit[r]/holders, 1) || s.used[r]+n > most.used[r] {
		return s
	}
	return most
}

// peerOf names the peer of a connection. Who has an IPv6 address has most often
// 2^64 of them.
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

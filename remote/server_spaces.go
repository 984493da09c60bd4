package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// space is the store of one namespace and the server's state for it.
type space struct {
	name     string
	store    partd.Partd
	sessions sessions
	pops     retainedPops
	statistics
	dropped atomic.Int64 // time of the last drop, in nanoseconds

	done func() // returned by Namespaces.Acquire
	refs int    // number of connections; guarded by spaces.mu
}

// spaces holds the namespaces that connections use, and those with pop results that a client has
// not confirmed.
type spaces struct {
	sessions    sync.Mutex // guards the sessions of all spaces, because a tenant's lists hold sessions of several spaces
	lost        lostPops
	quotas      *quotas
	incarnation uint32 // differs between server processes; see sessions.init

	namespaces   Namespaces // nil if the server has only the default space
	defaultSpace *space
	mu           sync.Mutex
	named        map[string]*space
}

func (s *spaces) newSpace(name string, store partd.Partd, limit SpaceLimit) *space {
	p := &space{name: name, store: store, statistics: statistics{counting: make(semaphore, 1)}}
	p.sessions.init(store, &p.pops, limit, s.quotas, &s.sessions, s.incarnation)
	p.pops.init(s.quotas, &s.lost)
	return p
}

// acquire returns the space of a namespace. The connection must call release when it ends.
func (s *spaces) acquire(name string) (*space, error) {
	if name == "" {
		return s.defaultSpace, nil
	}
	if s.namespaces == nil {
		return nil, errNoNamespaces(name)
	}
	if err := CheckNamespace(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.named[name]
	if p == nil {
		store, done := s.namespaces.Acquire(name)
		p = s.newSpace(name, store, s.namespaces.SpaceLimit(name))
		p.done = done
		s.named[name] = p
	}
	p.refs++
	return p, nil
}

func errNoNamespaces(name string) error {
	return fmt.Errorf("this server has no namespaces, but the client asked for %q: %w", truncate(name), errors.ErrUnsupported)
}

// release records that a connection of p has ended and forgets unused spaces.
func (s *spaces) release(p *space) {
	if p == s.defaultSpace {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.refs--
	for name, p := range s.named {
		if p.refs == 0 && p.pops.empty() {
			delete(s.named, name)
			p.sessions.close()
			p.done()
		}
	}
}

// close drops all results of pops and closes the stores of all namespaces except the default one.
func (s *spaces) close(ctx context.Context) error {
	s.defaultSpace.pops.close()
	s.mu.Lock()
	for _, p := range s.named {
		p.pops.close()
	}
	s.mu.Unlock()
	if s.namespaces == nil {
		return nil
	}
	return s.namespaces.Close(ctx)
}

// statistics caches the last answer to stat, because some stores must read all their data to compute
// it. A change by this server invalidates the answer. Because other processes may also change the
// store, the answer expires after ten times the time that computing it took.
type statistics struct {
	changes  atomic.Uint64 // number of finished changes
	counting semaphore     // held while computing the answer

	stats         partd.Stats
	changesBefore uint64 // value of changes when computing stats began
	countedAt     time.Time
	duration      time.Duration
}

// get returns the statistics of store. It computes them if necessary.
func (m *statistics) get(ctx context.Context, store partd.Partd) (partd.Stats, error) {
	if err := m.counting.acquire(ctx); err != nil {
		return partd.Stats{}, err
	}
	defer m.counting.release()
	changes, begin := m.changes.Load(), time.Now()
	if changes != m.changesBefore || begin.Sub(m.countedAt) > 10*m.duration {
		st, err := partd.Stat(ctx, store)
		if err != nil {
			return partd.Stats{}, err
		}
		m.stats, m.changesBefore, m.countedAt, m.duration = st, changes, time.Now(), time.Since(begin)
	}
	return m.stats, nil
}

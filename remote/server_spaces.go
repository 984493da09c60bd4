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

// Namespaces manages a server's stores, except the default one.
type Namespaces interface {
	// Acquire returns the store of a namespace, for use until done is called. If the namespace
	// does not exist, the store is empty, and its first change creates the namespace. Acquire
	// may be called again for a namespace in use.
	Acquire(name string) (store partd.Partd, done func())
	// SpaceLimit returns the limit of a namespace, or nil for no limit.
	SpaceLimit(name string) SpaceLimit
	// List returns the first namespaces whose names are greater than after, at most limit.
	List(ctx context.Context, after string, limit int) ([]NamespaceInfo, error)
	// WhenFull registers endIdle, which closes an idle reader. Readers keep stores open. So if the
	// maximum number of stores is open, Namespaces calls endIdle before it opens another one.
	WhenFull(endIdle func())
	// Close closes all stores.
	Close(ctx context.Context) error
}

// NamespaceInfo describes a namespace.
type NamespaceInfo struct {
	Name      string
	DiskBytes int64     // size of its files
	LastUsed  time.Time // approximate
}

// space is the store of one namespace, with the server's state for it.
type space struct {
	name     string
	store    partd.Partd
	sessions sessions
	pops     retainedPops
	statistics
	dropped atomic.Int64 // time of the last drop, in nanoseconds

	done func() // from Namespaces.Acquire
	refs int    // number of connections; guarded by the mu of spaces
}

func newSpace(name string, store partd.Partd, limit SpaceLimit, s *Server) *space {
	p := &space{name: name, store: store, statistics: statistics{counting: make(semaphore, 1)}}
	p.sessions.init(p, limit, &s.quotas, &s.spaces.sessions, uint32(s.instance>>32))
	p.pops.init(&s.quotas, &s.spaces.lost)
	return p
}

// spaces are the namespaces that connections use, and the namespaces with results of pops that a
// client has not confirmed.
type spaces struct {
	sessions sync.Mutex // guards the sessions of all spaces, because a tenant's lists contain sessions of several spaces
	lost     lostPops
	mu       sync.Mutex
	named    map[string]*space
}

// enterSpace returns the space of a namespace. The connection must call leaveSpace when it ends.
func (s *Server) enterSpace(name string) (*space, error) {
	if name == "" {
		return s.space, nil
	}
	if s.opts.Namespaces == nil {
		return nil, errNoNamespaces(name)
	}
	if err := CheckNamespace(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	s.spaces.mu.Lock()
	defer s.spaces.mu.Unlock()
	p := s.spaces.named[name]
	if p == nil {
		store, done := s.opts.Namespaces.Acquire(name)
		p = newSpace(name, store, s.opts.Namespaces.SpaceLimit(name), s)
		p.done = done
		s.spaces.named[name] = p
	}
	p.refs++
	return p, nil
}

func errNoNamespaces(name string) error {
	return fmt.Errorf("this server has no namespaces, but the client asked for %q: %w", truncate(name), errors.ErrUnsupported)
}

// leaveSpace records that a connection of p has ended, and forgets unused spaces.
func (s *Server) leaveSpace(p *space) {
	if p == s.space {
		return
	}
	s.spaces.mu.Lock()
	defer s.spaces.mu.Unlock()
	p.refs--
	for name, p := range s.spaces.named {
		if p.refs == 0 && p.pops.empty() {
			delete(s.spaces.named, name)
			p.sessions.close()
			p.done()
		}
	}
}

// closeSpaces drops all results of pops, and closes the stores of all namespaces except the default.
func (s *Server) closeSpaces(ctx context.Context) error {
	s.pops.close()
	s.spaces.mu.Lock()
	for _, p := range s.spaces.named {
		p.pops.close()
	}
	s.spaces.mu.Unlock()
	if s.opts.Namespaces == nil {
		return nil
	}
	return s.opts.Namespaces.Close(ctx)
}

const listPageSize = 500

func (c *conn) namespaces(_ request, d *decoder) (fill, error) {
	lastName := d.text()
	return func(a *answer) error {
		if c.server.opts.Namespaces == nil {
			return fmt.Errorf("this server has no namespaces: %w", errors.ErrUnsupported)
		}
		var visible []NamespaceInfo
		for more := true; more && len(visible) == 0; {
			list, err := c.server.opts.Namespaces.List(c.ctx, lastName, listPageSize)
			if err != nil {
				return err
			}
			for _, info := range list {
				lastName = info.Name
				if auth := c.server.opts.Authorizer; auth == nil || auth.Rights(c.access.user, info.Name)&RightAdmin != 0 {
					visible = append(visible, info)
				}
			}
			if more = len(list) == listPageSize; more && len(visible) > 0 {
				a.flags |= flagMore
			}
		}
		if lastName = ""; len(visible) > 0 {
			lastName = visible[len(visible)-1].Name // tell the client no name that it may not see
		}
		a.buf = appendText(a.buf, lastName)
		a.u32(uint32(len(visible)))
		for _, info := range visible {
			a.buf = appendText(a.buf, info.Name)
			a.u64(uint64(info.DiskBytes))
			a.u64(uint64(info.LastUsed.Unix()))
		}
		return nil
	}, nil
}

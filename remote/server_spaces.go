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

// Namespaces manages the stores of a server other than the default one.
type Namespaces interface {
	// Use returns the store of a namespace, for use until done is called. The first
	// change creates the store. Use may be called several times for one namespace.
	Use(name string) (store partd.Partd, done func())
	// Room returns the limits of a namespace; nil if nothing limits it.
	Room(name string) Room
	// List returns at most limit namespaces whose names come after a name, sorted
	// by name.
	List(ctx context.Context, after string, limit int) ([]NamespaceInfo, error)
	// WhenFull registers a function that ends idle reads, which keep stores open.
	// Namespaces calls it when another store is needed and no more may be open.
	WhenFull(endIdle func())
	// Close closes all stores.
	Close(ctx context.Context) error
}

// NamespaceInfo describes a namespace.
type NamespaceInfo struct {
	Name string
	Disk int64     // bytes of its files
	Used time.Time // time of last use, roughly
}

// space is a store that clients work on, with what the server knows of it. What
// the server may hold, its quotas bound for all spaces together.
type space struct {
	name     string
	store    partd.Partd
	sessions sessions
	pops     retainedPops
	statistics
	dropped atomic.Int64 // when the store was dropped last, in nanoseconds

	done func()
	refs int // connections; guarded by the mu of spaces
}

func newSpace(name string, store partd.Partd, s *Server) (*space, error) {
	p := &space{name: name, store: store, statistics: statistics{one: make(semaphore, 1)}}
	if err := p.sessions.init(p, &s.quotas, &s.spaces.sessions, uint32(s.instance>>32)); err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	p.pops.init(&s.quotas, &s.spaces.lost)
	return p, nil
}

// spaces are the namespaces that connections work on, and those that keep what was
// popped for a client that may come back.
type spaces struct {
	sessions sync.Mutex // of the sessions of all spaces, which peers share
	lost     lostPops   // of all spaces, also of those that were forgotten
	mu       sync.Mutex
	named    map[string]*space
}

// enter returns the space of a namespace.
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
		store, done := s.opts.Namespaces.Use(name)
		var err error
		if p, err = newSpace(name, store, s); err != nil {
			done()
			return nil, err
		}
		p.done, p.sessions.room = done, s.opts.Namespaces.Room(name)
		s.spaces.named[name] = p
	}
	p.refs++
	return p, nil
}

func errNoNamespaces(name string) error {
	return fmt.Errorf("this server has no namespaces, but was asked for %q: %w", cut(name), errors.ErrUnsupported)
}

// leaveSpace notes the end of a connection, and forgets the spaces that nobody
// works on.
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

// closeSpaces forgets all that was popped, and closes the stores of namespaces.
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

const listedAtOnce = 500

// namespaces answers with those of which the user is an administrator.
func (c *conn) namespaces(_ request, d *decoder) (fill, error) {
	after := d.text()
	return func(a *answer) error {
		if c.server.opts.Namespaces == nil {
			return fmt.Errorf("this server has no namespaces: %w", errors.ErrUnsupported)
		}
		var shown []NamespaceInfo
		for more := true; more && len(shown) == 0; {
			list, err := c.server.opts.Namespaces.List(c.ctx, after, listedAtOnce)
			if err != nil {
				return err
			}
			for _, info := range list {
				after = info.Name
				if auth := c.server.opts.Authorizer; auth == nil || auth.Rights(c.access.who, info.Name)&RightAdmin != 0 {
					shown = append(shown, info)
				}
			}
			if more = len(list) == listedAtOnce; more && len(shown) > 0 {
				a.flags |= flagMore
			}
		}
		if after = ""; len(shown) > 0 {
			after = shown[len(shown)-1].Name // which tells nothing of others'
		}
		a.buf = appendText(a.buf, after)
		count := a.hole()
		for _, info := range shown {
			a.buf = appendText(a.buf, info.Name)
			a.u64(uint64(info.Disk))
			a.u64(uint64(info.Used.Unix()))
		}
		a.fill(count, uint32(len(shown)))
		return nil
	}, nil
}

// Namespaces lists the server's namespaces, except the default one, of which
// the user is an administrator.
func (c *Client) Namespaces(ctx context.Context) ([]NamespaceInfo, error) {
	var all []NamespaceInfo
	for after, more := "", true; more; {
		k := newCall(opNamespaces)
		k.buf = appendText(k.buf, after)
		if err := c.do(ctx, k); err != nil {
			return nil, c.errorf("namespaces", err)
		}
		d := &decoder{b: k.reply}
		next, n := d.text(), d.u32()
		for ; n > 0 && d.err == nil; n-- {
			all = append(all, NamespaceInfo{Name: d.text(), Disk: int64(d.u64()), Used: time.Unix(int64(d.u64()), 0)})
		}
		if err := d.end(); err != nil {
			return nil, c.errorf("namespaces", fmt.Errorf("%w: %w", ErrBadRequest, err))
		}
		more = k.got&flagMore != 0 && next > after
		after = next
	}
	return all, nil
}

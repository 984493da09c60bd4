// Package namespaces keeps many stores in a directory, of which few are open at a
// time.
package namespaces

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/space"
	"github.com/go-partd/partd/remote"
)

// Options are the options of [New].
type Options struct {
	// Open opens the store in a directory, and makes it where there is none.
	Open func(ctx context.Context, dir string) (partd.Partd, error)
	// MaxOpen is how many stores are open at a time. Who needs one more closes the
	// one that was not used for longest, or waits.
	MaxOpen int
	// TTL is how long a namespace stays that nobody uses; for ever unless given.
	TTL time.Duration
	// MaxBytes is what each may take on disk, MinFree what stays free of it, as Free
	// tells. 0 is no limit. Sizes tells of an open store what it takes on disk, and
	// what it is yet to write out; GiveBack has one free what it keeps of dead data.
	MaxBytes, MinFree int64
	Free              func() (int64, error)
	Sizes             func(partd.Partd) (disk, pending int64, err error)
	GiveBack          func(context.Context, partd.Partd)
	// Reader and Listing are what an open reader and a listing of a store take, in
	// bytes.
	Reader, Listing int64
	Logger          *slog.Logger
}

// Set has the namespaces of a directory.
type Set struct {
	dir     string
	opts    Options
	disk    *space.Guard // nil where nothing has to stay free
	refused atomic.Int64 // changes, for want of room

	mu      sync.Mutex
	entries map[string]*entry // those in use, and those that are open
	opened  int               // stores that are open, or are being opened or closed
	idle    list.List         // of *entry, open and not in use, the one used last at the end
	queue   list.List         // of names whose stores are to be opened, one for each who waits
	freed   chan struct{}     // closed when a store may be had
	closed  bool
	endIdle func() // of the server, nil without one

	begun time.Time
	stop  chan struct{}
	swept sync.WaitGroup
}

type entry struct {
	name     string
	users    int // by Use
	leases   int // operations under way
	long     int // of them, those that read for long
	store    partd.Partd
	place    *list.Element // in idle
	opened   time.Time
	used     time.Time     // last
	changing chan struct{} // closed when it is no longer being opened, closed or removed
	touched  time.Time     // when its directory was marked as used
}

var _ remote.Namespaces = (*Set)(nil)

// New makes a set of a directory, which need not exist.
func New(dir string, opts Options) (*Set, error) {
	s := &Set{dir: dir, opts: opts, begun: time.Now(), entries: map[string]*entry{}, freed: make(chan struct{}), stop: make(chan struct{})}
	var err error
	if s.disk, err = space.New(space.Limits{MinFree: opts.MinFree, Free: opts.Free, Pending: s.pending}); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range names { // of a removal that was cut short
		if strings.HasPrefix(n.Name(), removedPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, n.Name())); err != nil {
				return nil, err
			}
		}
	}
	if opts.TTL > 0 {
		s.swept.Go(s.sweep)
	}
	return s, nil
}

// removedPrefix begins no name of a namespace.
const removedPrefix = "~"

// fileName is the name of a namespace's directory. File systems may take large
// letters for small ones.
func fileName(name string) string {
	var b strings.Builder
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('+')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func nameOf(file string) (name string, ok bool) {
	upper := false
	var b strings.Builder
	for _, r := range file {
		if r == '+' && !upper {
			upper = true
			continue
		}
		if upper {
			r -= 'a' - 'A'
		}
		upper = false
		b.WriteRune(r)
	}
	name = b.String()
	return name, remote.CheckNamespace(name) == nil && fileName(name) == file
}

func (s *Set) path(name string) string { return filepath.Join(s.dir, fileName(name)) }

// entry returns what is known of a namespace. mu is held.
func (s *Set) entry(name string) *entry {
	e := s.entries[name]
	if e == nil {
		e = &entry{name: name}
		s.entries[name] = e
	}
	return e
}

// forget forgets what is nobody's. mu is held.
func (s *Set) forget(e *entry) {
	if e.users == 0 && e.leases == 0 && e.store == nil && e.changing == nil && s.entries[e.name] == e {
		delete(s.entries, e.name)
	}
}

// Use implements [remote.Namespaces].
func (s *Set) Use(name string) (store partd.Partd, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry(name).users++
	return &lazy{s, name}, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e := s.entries[name]
		if e.users--; e.users == 0 {
			s.touch(e)
		}
		s.forget(e)
	})
}

// WhenFull implements [remote.Namespaces].
func (s *Set) WhenFull(endIdle func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endIdle = endIdle
}

// touch marks a namespace, if it is there, as used now. mu is held.
func (s *Set) touch(e *entry) {
	e.touched = time.Now()
	_ = os.Chtimes(s.path(e.name), e.touched, e.touched) // it only stays for longer, or goes sooner
}

// announce wakes those who wait for a store. mu is held.
func (s *Set) announce() {
	close(s.freed)
	s.freed = make(chan struct{})
}

// open opens a store, in the place of another if one is given, without mu meanwhile.
// mu is held.
func (s *Set) open(ctx context.Context, e, instead *entry) error {
	e.changing = make(chan struct{})
	if s.opened++; instead != nil {
		s.close(ctx, instead)
	}
	s.mu.Unlock()
	var store partd.Partd
	err := os.MkdirAll(s.dir, 0o777)
	if err == nil {
		store, err = s.opts.Open(ctx, s.path(e.name))
	}
	s.mu.Lock()
	close(e.changing)
	e.changing = nil
	if err != nil {
		s.opened--
		s.announce()
		s.forget(e)
		return fmt.Errorf("namespace %s: %w", e.name, err)
	}
	e.store, e.opened = store, time.Now()
	e.used = e.opened
	e.place = s.idle.PushBack(e)
	s.announce() // as Close may wait for it
	return nil
}

// close closes a store that is not in use, without mu meanwhile. mu is held.
func (s *Set) close(ctx context.Context, e *entry) {
	store := e.store
	s.idle.Remove(e.place)
	e.place, e.store, e.changing = nil, nil, make(chan struct{})
	s.mu.Unlock()
	err := partd.Close(context.WithoutCancel(ctx), store)
	if err != nil {
		s.opts.Logger.Error("closing the store of a namespace", "namespace", e.name, "error", err)
	}
	s.mu.Lock()
	close(e.changing)
	e.changing = nil
	s.opened--
	s.announce()
	s.forget(e)
}

// Close implements [remote.Namespaces]. What is in use is waited for.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	s.mu.Unlock()
	if already {
		return nil
	}
	close(s.stop)
	s.swept.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.opened > 0 {
		if first := s.idle.Front(); first != nil {
			s.close(ctx, first.Value.(*entry))
			continue
		}
		wait := s.freed
		s.mu.Unlock()
		err := canceled.Wait(ctx, wait)
		s.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

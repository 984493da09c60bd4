// Package namespaces manages many stores in one directory and keeps only a few of them open.
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
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/space"
	"github.com/go-partd/partd/remote"
)

// Options configures [New].
type Options struct {
	// Open opens the store in a directory. It creates the store if it does not exist.
	Open func(ctx context.Context, dir string) (partd.Partd, error)
	// MaxOpen is the maximum number of open stores. To open another store, the set closes the store
	// that has been idle longest. If none is idle, it waits.
	MaxOpen int
	// TTL is how long an unused namespace is kept; 0 means forever.
	TTL time.Duration
	// MaxBytes is the disk quota of each namespace, and MinFree is the disk space that must
	// stay free, both in bytes. 0 means no limit.
	MaxBytes, MinFree int64
	// Free returns the free disk space in bytes.
	Free func() (int64, error)
	// Measure returns the size of an open store on disk and the size of the data that the store
	// must still write, in bytes.
	Measure func(partd.Partd) (disk, pending int64, err error)
	// Reclaim frees the space of a store's deleted data.
	Reclaim func(context.Context, partd.Partd)
	// ReaderMemory is the memory that an open reader uses, and ListingMemory is the memory that a
	// listing uses, in bytes.
	ReaderMemory, ListingMemory int64
	Logger                      *slog.Logger
}

// Set is the set of namespaces in a directory.
type Set struct {
	dir     string
	opts    Options
	disk    *space.Guard // keeps MinFree bytes of the disk free; nil if MinFree is 0
	refused atomic.Int64 // number of changes rejected for lack of space

	mu        sync.Mutex
	entries   map[string]*entry // namespaces that are in use or whose store is open
	openCount int               // number of stores that are open, being opened or being closed
	idle      list.List         // entries (*entry) of open stores that are not in use, by time of last use
	queue     list.List         // the namespace's name, for each operation waiting to open a store
	freed     chan struct{}     // closed when a store may have become idle or closed
	closed    bool
	endIdle   func() // set by WhenFull; may be nil

	startedAt time.Time
	life      context.Context // canceled by Close
	end       context.CancelFunc
	sweeping  sync.WaitGroup
}

type entry struct {
	name        string
	users       int // number of Acquire calls whose done function was not yet called
	leases      int // number of operations in progress
	longUses    int // number of operations in progress that can take long
	store       partd.Partd
	idleElement *list.Element // the entry's element in Set.idle, or nil
	openedAt    time.Time
	lastUsed    time.Time
	changing    chan struct{} // closed when opening, closing or removal ends; nil if nothing is changing
	touchedAt   time.Time     // when touch last set the directory's modification time
}

var _ remote.Namespaces = (*Set)(nil)

// New returns the set of namespaces in dir, which need not exist.
func New(dir string, opts Options) (*Set, error) {
	s := &Set{dir: dir, opts: opts, startedAt: time.Now(), entries: map[string]*entry{}, freed: make(chan struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	var err error
	s.disk, err = space.New(space.Limits{MinFree: opts.MinFree, Free: opts.Free, Pending: s.pending})
	if err != nil {
		return nil, err
	}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range names { // finish an interrupted removal
		if strings.HasPrefix(n.Name(), removedPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, n.Name())); err != nil {
				return nil, err
			}
		}
	}
	if opts.TTL > 0 {
		s.sweeping.Go(s.sweep)
	}
	return s, nil
}

// removedPrefix begins the name of a directory that is being removed. Names of namespaces never
// begin with it.
const removedPrefix = "~"

// expiredPrefix begins the name of an empty file that records that a namespace has expired.
const expiredPrefix = "="

var (
	capital        = regexp.MustCompile(`[A-Z]`)
	encodedCapital = regexp.MustCompile(`\+[a-z]`)
)

// fileName returns the directory name of a namespace. It encodes capital letters, because some file
// systems ignore case.
func fileName(name string) string {
	return capital.ReplaceAllStringFunc(name, func(c string) string { return "+" + strings.ToLower(c) })
}

func namespaceOf(file string) (name string, ok bool) {
	name = encodedCapital.ReplaceAllStringFunc(file, func(c string) string { return strings.ToUpper(c[1:]) })
	return name, remote.CheckNamespace(name) == nil && fileName(name) == file
}

func (s *Set) path(name string) string { return filepath.Join(s.dir, fileName(name)) }

func (s *Set) expiredPath(name string) string {
	return filepath.Join(s.dir, expiredPrefix+fileName(name))
}

// entry returns the entry for a namespace. It adds the entry if necessary. mu must be held.
func (s *Set) entry(name string) *entry {
	e := s.entries[name]
	if e == nil {
		e = &entry{name: name}
		s.entries[name] = e
	}
	return e
}

// forget removes an entry unless it is in use. mu must be held.
func (s *Set) forget(e *entry) {
	if e.users == 0 && e.leases == 0 && e.store == nil && e.changing == nil && s.entries[e.name] == e {
		delete(s.entries, e.name)
	}
}

// Acquire implements [remote.Namespaces].
func (s *Set) Acquire(name string) (store partd.Partd, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry(name).users++
	return &lazy{s, name}, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e := s.entries[name]
		e.users--
		if e.users == 0 {
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

// touch records the current time as the namespace's time of last use, which is the modification time
// of its directory. mu must be held.
func (s *Set) touch(e *entry) {
	e.touchedAt = time.Now()
	_ = os.Chtimes(s.path(e.name), e.touchedAt, e.touchedAt) // ignore the error: the namespace only expires earlier
}

// announce wakes all goroutines waiting for a store to become idle or closed. mu must be held.
func (s *Set) announce() {
	close(s.freed)
	s.freed = make(chan struct{})
}

// open opens the store of e. If victim is not nil, it first closes the store of victim. mu must be
// held; open unlocks it while it opens the store.
func (s *Set) open(ctx context.Context, e, victim *entry) error {
	e.changing = make(chan struct{})
	s.openCount++
	if victim != nil {
		s.close(ctx, victim)
	}
	s.mu.Unlock()
	var store partd.Partd
	err := os.MkdirAll(s.dir, 0o777)
	if err == nil {
		store, err = s.opts.Open(ctx, s.path(e.name))
	}
	if err == nil {
		_ = os.Remove(s.expiredPath(e.name)) // ignore the error: the file matters only while there is no namespace
	}
	s.mu.Lock()
	close(e.changing)
	e.changing = nil
	if err != nil {
		s.openCount--
		s.announce()
		s.forget(e)
		return fmt.Errorf("namespace %s: %w", e.name, err)
	}
	e.store, e.openedAt = store, time.Now()
	e.lastUsed = e.openedAt
	e.idleElement = s.idle.PushBack(e)
	s.announce() // Close may be waiting
	return nil
}

// close closes a store that is not in use. mu must be held; close unlocks it while it closes the
// store.
func (s *Set) close(ctx context.Context, e *entry) {
	store := e.store
	s.idle.Remove(e.idleElement)
	e.idleElement, e.store, e.changing = nil, nil, make(chan struct{})
	s.mu.Unlock()
	err := partd.Close(context.WithoutCancel(ctx), store)
	if err != nil {
		s.opts.Logger.Error("cannot close the store of a namespace", "namespace", e.name, "error", err)
	}
	s.mu.Lock()
	close(e.changing)
	e.changing = nil
	s.openCount--
	s.announce()
	s.forget(e)
}

// Close implements [remote.Namespaces]. It waits for stores that are in use.
func (s *Set) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.sweeping.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.openCount > 0 {
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

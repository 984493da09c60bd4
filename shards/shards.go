// Package shards spreads the keys of one store over several stores. Rendezvous hashing assigns each
// key to one of them.
//
// The assignment depends only on the key and on the names of the shards, not on their order. A new
// shard takes its share of the keys from all others; no other key moves. There are no replicas: data
// that a shard loses is lost, and while a shard is unreachable, so are its keys. The keys of the
// other shards remain available.
//
// Every client must name the same shards. The first change needs all shards. It writes the list of
// names and the shard's own name into each store, under a key that Shards hides from callers. A
// client that has another list, or mistakes one shard for another, gets an error before it reads or
// changes anything. docs/dev/format.md describes the hash and the list.
//
// Append and Delete are all or nothing within each shard. If only some shards have made a change, the
// error names them and wraps [partd.ErrUnknownOutcome]. Pop and Apply are missing, because neither can
// be atomic over several stores.
//
// docs/dev/invariants.md in the repository lists what must hold (S1 to S4).
package shards

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

const (
	// MaxShards is the maximum number of shards.
	MaxShards = 256
	// MaxNameLen is the maximum length of a name, in bytes.
	MaxNameLen = 255
)

// Shards is a store that spreads its keys over other stores. It is safe for concurrent use.
type Shards struct {
	shards       []*shard    // sorted by name
	names        string      // the names, one per line
	idsExchanged atomic.Bool // every store contains the identifiers of all shards
	closed       atomic.Bool
	ctx          context.Context // canceled by Close
	cancel       context.CancelFunc
}

type shard struct {
	name     string
	hash     uint64
	openLock chan struct{}               // a mutex, held while opening the store and reading its list
	store    atomic.Pointer[partd.Partd] // nil until open
	open     func(ctx context.Context) (partd.Partd, error)

	list         string                       // the shard list that the store must contain
	current      atomic.Pointer[seenIdentity] // the store's identity; nil until the store is known to be the right one
	lastIdentity atomic.Pointer[seenIdentity] // the identity last read from the store, even if it is the wrong store
	lastErr      atomic.Pointer[error]        // the last error from opening the store or reading its list
}

// New returns a store that spreads its keys over open stores. All clients must use the same name for
// the same store. Closing the Shards closes the stores. The stores must support SetOnce.
func New(names []string, stores []partd.Partd) (*Shards, error) {
	if len(names) != len(stores) {
		return nil, fmt.Errorf("shards: %d names for %d stores", len(names), len(stores))
	}
	if i := slices.Index(stores, nil); i >= 0 {
		return nil, fmt.Errorf("shards: the store of %q is nil", names[i])
	}
	s, err := newShards(names)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.shards {
		store := stores[slices.Index(names, sh.name)] // a copy: the caller may change its slice
		sh.store.Store(&store)
	}
	return s, nil
}

// Open is like New, but opens the stores by name, concurrently. Open succeeds even if some, but not
// all, stores are unreachable because of a network error (a [net.Error] that is not about a file). An
// unreachable store is opened when one of its keys is needed.
func Open(ctx context.Context, names []string, open func(ctx context.Context, name string) (partd.Partd, error)) (*Shards, error) {
	s, err := newLazyShards(names, open)
	if err != nil {
		return nil, err
	}
	errs := concurrently(s.shards, func(_ int, sh *shard) error { return s.ensure(ctx, sh, strict) })
	canContinue := false
	for _, err := range errs {
		if err != nil && !isUnreachable(err) {
			canContinue = false
			break
		}
		canContinue = canContinue || err == nil
	}
	err = joinErrors(s.shards, errs, strict)
	if canContinue && ctx.Err() == nil {
		err = s.checkStores(ctx)
	}
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: strings.Join(names, ","), Err: errors.Join(err, s.Close())}
	}
	return s, nil
}

// isUnreachable reports whether err is a network error, so a retry may succeed. A bare
// syscall.Errno does not count: it implements net.Error, but is usually about a file.
func isUnreachable(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	_, isErrno := netErr.(syscall.Errno)
	return ok && !isErrno
}

// checkStores returns an error if an open shard has the wrong store. It ignores other errors; the
// next operation on the shard will return them.
func (s *Shards) checkStores(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return joinErrors(s.shards, concurrently(s.shards, func(_ int, sh *shard) error {
		if sh.store.Load() == nil {
			return nil
		}
		if err := s.ensure(ctx, sh, readable); errors.Is(err, ErrStoreMismatch) {
			return err
		}
		return nil
	}), strict)
}

// CheckNames returns an error unless names are valid, distinct names of shards.
func CheckNames(names []string) error {
	if len(names) == 0 || len(names) > MaxShards {
		return fmt.Errorf("shards: there are %d names: use 1 to %d", len(names), MaxShards)
	}
	for i, name := range names {
		if name == "" || len(name) > MaxNameLen || strings.ContainsAny(name, "\r\n") {
			return fmt.Errorf("shards: a name must have 1 to %d bytes on one line, not %s", MaxNameLen, storekit.QuoteKey(name))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("shards: %s is named twice", name)
		}
	}
	return nil
}

// newLazyShards returns shards that call open when they need a store.
func newLazyShards(names []string, open func(ctx context.Context, name string) (partd.Partd, error)) (*Shards, error) {
	if open == nil {
		return nil, errors.New("shards: open is nil: pass a function that opens a store by its name")
	}
	s, err := newShards(names)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.shards {
		sh.open = func(ctx context.Context) (partd.Partd, error) {
			store, err := open(ctx, sh.name)
			if store == nil && err == nil {
				err = errors.New("open returned no store")
			}
			return store, err
		}
	}
	return s, nil
}

func newShards(names []string) (*Shards, error) {
	if err := CheckNames(names); err != nil {
		return nil, err
	}
	s := &Shards{}
	for _, name := range names {
		s.shards = append(s.shards, &shard{name: name, hash: xxh3.HashString(name), openLock: make(chan struct{}, 1)})
	}
	slices.SortFunc(s.shards, func(a, b *shard) int { return strings.Compare(a.name, b.name) })
	for _, sh := range s.shards {
		s.names += sh.name + "\n"
	}
	for _, sh := range s.shards {
		sh.list = listHeader + sh.name + "\n" + s.names
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// indexOf returns the index of a key's shard. The hash must never change: otherwise stored keys
// would no longer be found.
func (s *Shards) indexOf(key string) (index int) {
	h, highest := xxh3.HashString(key), uint64(0)
	for i, sh := range s.shards {
		x := (h ^ sh.hash) * 0x9E3779B97F4A7C15
		x = (x ^ x>>32) * 0xD6E8FEB86659FD93
		x ^= x >> 32
		if x >= highest {
			index, highest = i, x
		}
	}
	return index
}

// Close closes all stores. Operations in progress fail.
func (s *Shards) Close() error {
	if s.closed.Swap(true) || s.cancel == nil {
		return nil
	}
	s.cancel()
	errs := concurrently(s.shards, func(_ int, sh *shard) error {
		sh.openLock <- struct{}{} // never released, so that the store cannot be opened again
		store := sh.store.Load()
		if store == nil {
			return nil
		}
		if c, ok := (*store).(io.Closer); ok { // partd.Close would flush the store again
			return c.Close()
		}
		return errors.ErrUnsupported
	})
	return errorf("close", joinErrors(s.shards, errs, lenient))
}

func errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Err: err}
}

// Package shards spreads the keys of one store over several: rendezvous hashing
// assigns each key to one of them.
//
// The assignment depends only on the key and on the names of the shards, not on their
// order. A new name takes its share of the keys from all others and leaves the rest in
// place. There are no replicas: data that a shard loses is lost, and while a shard is
// unreachable, so are its keys. The keys of the other shards remain available.
//
// Every client must name the same shards. The very first change, for which all shards must
// be reachable, writes the list of names and the shard's own name into each store, under a
// key that only the underlying store shows. A client that has another list, or mistakes
// one shard for another, is refused before it reads or changes anything. docs/format.md
// describes the hash and the list.
//
// Append and Delete are all or nothing within each shard. If only some shards have made
// a change, the error says which, and wraps [partd.ErrUnknownOutcome]. There are no Pop
// and Apply: neither can be one step over several stores.
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
)

// Limits of a list of shards.
const (
	// MaxShards is the maximum number of shards.
	MaxShards = 256
	// MaxName is the maximum length of a name, in bytes.
	MaxName = 255
)

// Shards is a store that spreads its keys over others. It is safe for
// concurrent use.
type Shards struct {
	shards []*shard // sorted by name
	names  string   // a line for each

	shared atomic.Bool // all know each other's identifiers
	closed atomic.Bool
	life   context.Context // ends with Close
	end    context.CancelFunc
}

// shard is one of the stores.
type shard struct {
	name  string
	hash  uint64
	turn  chan struct{}               // held by who opens it or looks at its list
	store atomic.Pointer[partd.Partd] // nil until it is open
	open  func(ctx context.Context) (partd.Partd, error)

	list   string                // what its store says of it
	known  atomic.Pointer[known] // what it says, once it was found to be the right one
	said   atomic.Pointer[known] // what it said last, right or wrong
	failed atomic.Pointer[error] // the last that opening it, or looking at its list, has met
}

// New spreads keys over open stores. Each has the name by which all clients know it.
// Closing the Shards closes the stores. The stores must support SetOnce.
func New(names []string, stores []partd.Partd) (*Shards, error) {
	if len(names) != len(stores) {
		return nil, fmt.Errorf("shards: %d names for %d stores", len(names), len(stores))
	}
	if i := slices.Index(stores, nil); i >= 0 {
		return nil, fmt.Errorf("shards: the store of %q is nil", names[i])
	}
	s, err := named(names)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.shards {
		sh.store.Store(&stores[slices.Index(names, sh.name)])
	}
	return s, nil
}

// Open is [New] for stores that it opens by name, all at the same time. If a network
// error ([net.Error], but no error of a file) makes some unreachable, Open continues
// with the others, and the missing ones are tried again when one of their keys is
// needed.
func Open(ctx context.Context, names []string, open func(ctx context.Context, name string) (partd.Partd, error)) (*Shards, error) {
	s, err := openedBy(names, open)
	if err != nil {
		return nil, err
	}
	errs := together(s.shards, func(_ int, sh *shard) error { return s.enter(ctx, sh, strict) })
	useful := false
	for _, err := range errs {
		if err != nil && !away(err) {
			useful = false
			break
		}
		useful = useful || err == nil
	}
	err = joined(s.shards, errs, strict)
	if useful && ctx.Err() == nil {
		err = s.meetAll(ctx)
	}
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: strings.Join(names, ","), Err: errors.Join(err, s.Close())}
	}
	return s, nil
}

// away reports whether an error is one of a network, whose other end may come back. A bare
// number of the system's, as files have it, also calls itself one of a network.
func away(err error) bool {
	var of net.Error
	if !errors.As(err, &of) {
		return false
	}
	_, bare := of.(syscall.Errno)
	return !bare
}

// meetAll looks whether all shards that are open are the right ones. Whatever else is wrong
// with one is an error once it is needed.
func (s *Shards) meetAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return joined(s.shards, together(s.shards, func(_ int, sh *shard) error {
		if sh.store.Load() == nil {
			return nil
		}
		if err := s.enter(ctx, sh, read); errors.Is(err, ErrOtherStore) {
			return err
		}
		return nil
	}), strict)
}

// CheckNames returns an error if shards cannot have these names.
func CheckNames(names []string) error {
	if len(names) == 0 || len(names) > MaxShards {
		return fmt.Errorf("shards: there are 1 to %d, not %d", MaxShards, len(names))
	}
	for i, name := range names {
		if name == "" || len(name) > MaxName || strings.ContainsAny(name, "\r\n") {
			return fmt.Errorf("shards: a name has 1 to %d bytes on one line, not %s", MaxName, partd.QuoteKey(name))
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("shards: %s is named twice", name)
		}
	}
	return nil
}

// openedBy is named for shards that a function opens.
func openedBy(names []string, open func(ctx context.Context, name string) (partd.Partd, error)) (*Shards, error) {
	if open == nil {
		return nil, errors.New("shards: open is nil: give a function that opens a store by its name")
	}
	s, err := named(names)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.shards {
		sh.open = func(ctx context.Context) (partd.Partd, error) {
			store, err := open(ctx, sh.name)
			if store == nil && err == nil {
				err = errors.New("open has returned no store")
			}
			return store, err
		}
	}
	return s, nil
}

// named makes shards without stores.
func named(names []string) (*Shards, error) {
	if err := CheckNames(names); err != nil {
		return nil, err
	}
	s := &Shards{}
	for _, name := range names {
		s.shards = append(s.shards, &shard{name: name, hash: xxh3.HashString(name), turn: make(chan struct{}, 1)})
	}
	slices.SortFunc(s.shards, func(a, b *shard) int { return strings.Compare(a.name, b.name) })
	for _, sh := range s.shards {
		s.names += sh.name + "\n"
	}
	for _, sh := range s.shards {
		sh.list = listHead + sh.name + "\n" + s.names
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// indexOf returns the number of the shard that has a key. Stores are filled by it: it must never
// change.
func (s *Shards) indexOf(key string) (index int) {
	h, most := xxh3.HashString(key), uint64(0)
	for i, sh := range s.shards {
		x := (h ^ sh.hash) * 0x9E3779B97F4A7C15
		x = (x ^ x>>32) * 0xD6E8FEB86659FD93
		if x ^= x >> 32; x >= most {
			index, most = i, x
		}
	}
	return index
}

// Close closes all stores. Operations in progress fail.
func (s *Shards) Close() error {
	if s.closed.Swap(true) || s.end == nil {
		return nil
	}
	s.end()
	errs := together(s.shards, func(_ int, sh *shard) error {
		sh.turn <- struct{}{} // kept: nothing is opened any more
		store := sh.store.Load()
		if store == nil {
			return nil
		}
		if c, ok := (*store).(io.Closer); ok { // not by partd.Close: who wanted a flush has done it
			return c.Close()
		}
		return errors.ErrUnsupported
	})
	return errorf("close", joined(s.shards, errs, loose))
}

func errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Err: err}
}

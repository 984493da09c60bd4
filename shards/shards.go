// Package shards spreads the keys of one store over several: each key is in one of
// them, found by rendezvous hashing.
//
// Which one it is depends on the key and on the shards' names alone, not on their
// order. Another name takes its share of the keys from all others, and leaves the rest
// where it is. There are no copies: what a shard loses is lost, and while one cannot be
// reached its keys cannot, either; those of the others can.
//
// Every client must name the same shards. Before the first change of all, for which each
// shard must be reached, the list of their names is written into each one's store, with
// its own, under a key that only the store beneath shows. Whoever comes with another list,
// or takes one shard for another, is refused before it reads or changes anything there.
// docs/format.md has the hash and the list.
//
// Append and Delete are all or nothing within each shard. Where some shards have made a
// change and others have not, the error says which, and wraps [partd.ErrUnknownOutcome].
// Pop and Apply are missing: neither can be one step over several stores.
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

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
)

// Limits of a list of shards.
const (
	// MaxShards is how many there may be.
	MaxShards = 256
	// MaxName is how long a name may be, in bytes.
	MaxName = 255
)

// Shards is a store over others. It is safe for concurrent use.
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

// New spreads keys over stores that are open, each with the name under which all
// clients know it. Closing Shards closes them. The stores need to be able to set once.
func New(names []string, stores []partd.Partd) (*Shards, error) {
	if len(names) != len(stores) {
		return nil, fmt.Errorf("shards: %d names for %d stores", len(names), len(stores))
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

// Open is New for stores that it opens by their names, all at once. If some cannot be
// reached, by an error that is a [net.Error], it goes on with the others, and tries
// again when it needs one of their keys.
func Open(ctx context.Context, names []string, open func(ctx context.Context, name string) (partd.Partd, error)) (*Shards, error) {
	s, err := named(names)
	if err != nil {
		return nil, err
	}
	for _, sh := range s.shards {
		sh.open = func(ctx context.Context) (partd.Partd, error) { return open(ctx, sh.name) }
	}
	errs := together(s.shards, func(_ int, sh *shard) error { return s.enter(ctx, sh, strict) })
	useful := false
	for _, err := range errs {
		if away := net.Error(nil); err != nil && !errors.As(err, &away) {
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

// CheckNames reports whether shards can have these names.
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

// Close closes all stores. What is under way fails.
func (s *Shards) Close() error {
	if s.closed.Swap(true) {
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

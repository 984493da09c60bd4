// Package tail keeps small appends to tables in a partd store until they are
// folded into the tables' files.
//
// The key of a table's rows is "<table uuid>/<epoch>". A fold ends the epoch,
// so that later appends go to the next one; it commits the rows together with
// the epoch's number as a property of the table, and then deletes the key. What
// a table holds is thus decided by one commit: epochs up to the number are in
// its files, later ones in the tail. The property's name has the tail's id in it,
// for epochs of different tails have nothing to do with each other.
package tail

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/groupsync"
)

// identityKey holds the ids of the warehouse and the tail.
const identityKey = "partd-tables"

// Store is the tails of all tables of a warehouse.
type Store struct {
	p      partd.Partd
	id     string
	sync   bool  // appends are synced before they are acknowledged
	memory int64 // how much of what is in p is held in memory as well
	used   atomic.Int64

	written atomic.Uint64   // appends that the store has, of all tables
	syncs   groupsync.Group // of their numbers

	mu      sync.Mutex
	logs    map[string]*Log    // by the tables' UUIDs, for a table may get another name
	waiting map[string][]int64 // epochs of tables that could not be read yet, by their UUIDs
}

// Unknown is the last folded epoch of a table that cannot be read now.
const Unknown = -2

// idLen is the length of a UUID as text.
const idLen = 36

// Open makes a tail of a store, which must be empty or the warehouse's tail
// already. With sync, appends are synced before they are acknowledged.
func Open(ctx context.Context, p partd.Partd, warehouse string, syncs bool, memory int64) (_ *Store, err error) {
	s := &Store{p: p, sync: syncs, memory: memory, logs: map[string]*Log{}, waiting: map[string][]int64{}}
	defer func() {
		if err == nil { // a log store that never was synced may not open again after a loss of power
			err = s.Flush(ctx)
		}
	}()
	values, err := p.Get(ctx, identityKey)
	if err != nil {
		return nil, err
	}
	if len(values[0]) == 0 {
		for k, err := range partd.Keys(ctx, p) {
			if err == nil && k.Key == identityKey {
				continue
			}
			if err == nil {
				err = fmt.Errorf("the store for the tail is not empty, it has a key %s: give it a store of its own", partd.QuoteKey(k.Key))
			}
			return nil, err
		}
		if err := p.Append(ctx, partd.Entry{Key: identityKey, Value: []byte(warehouse + " " + uuid.NewString())}); err != nil {
			return nil, err
		}
		// Another process may have come first: its id, which is before ours, holds.
		if values, err = p.Get(ctx, identityKey); err != nil {
			return nil, err
		}
	}
	w, id, ok := strings.Cut(string(values[0]), " ")
	if !ok || w != warehouse || len(id) < idLen {
		return nil, fmt.Errorf("the tail is that of another directory: give each its own")
	}
	s.id = id[:idLen]
	return s, nil
}

// Flush makes what the store has survive a loss of power, if it can.
func (s *Store) Flush(ctx context.Context) error {
	err := partd.Sync(ctx, s.p)
	if !s.sync && errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// Reclaim gives the room of folded rows back now, where the store can.
func (s *Store) Reclaim(ctx context.Context) {
	for p := range partd.Layers(s.p) {
		if p, ok := p.(interface{ Reclaim(ctx context.Context) }); ok {
			p.Reclaim(ctx)
		}
	}
}

// ID is the tail's own, kept in its store.
func (s *Store) ID() string { return s.id }

// SetID gives the tail another id, for tests that prove that it matters.
func (s *Store) SetID(id string) { s.id = id }

// Property is the name of the tables' property that says which epochs of this
// tail are folded.
func (s *Store) Property() string { return "partd.tail-epoch." + s.id }

// Folded returns the last epoch that is folded, by the table's properties; -1 if
// none is.
func (s *Store) Folded(properties map[string]string) int64 {
	n, err := strconv.ParseInt(properties[s.Property()], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// Recover finds the logs that the store has. Owner says whether a table still
// exists, and up to which epoch it is folded; what is of no use any more is deleted.
// What has a table whose epoch is Unknown, or what cannot be read, waits for Claim.
func (s *Store) Recover(ctx context.Context, owner func(uuid string) (folded int64, exists bool, err error)) (map[string]*Log, error) {
	folded := map[string]int64{}
	var useless []string
	for k, err := range partd.Keys(ctx, s.p) {
		if err != nil {
			return nil, err
		}
		if k.Key == identityKey {
			continue
		}
		table, number, _ := strings.Cut(k.Key, "/")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the tail has a key %s that is none of its own", partd.QuoteKey(k.Key))
		}
		if _, known := folded[table]; !known {
			upTo, exists, err := owner(table)
			if err != nil {
				return nil, err
			}
			if !exists {
				useless = append(useless, k.Key)
				continue
			}
			folded[table] = upTo
		}
		s.waiting[table] = append(s.waiting[table], n)
	}
	logs := map[string]*Log{}
	for table, upTo := range folded {
		if upTo == Unknown {
			continue
		}
		l, err := s.Claim(ctx, table, upTo)
		switch {
		case ctx.Err() != nil:
			return nil, canceled.Err(ctx)
		case err == nil && !s.Retire(l): // who uses the table gets the error
			logs[table] = l
		}
	}
	if len(useless) == 0 {
		return logs, nil
	}
	return logs, partd.Delete(ctx, s.p, useless...)
}

// Claim returns the log of a table that is folded up to an epoch, nil if there is
// none: what waits is read now, and stays where it is with an error.
func (s *Store) Claim(ctx context.Context, uuid string, folded int64) (*Log, error) {
	s.mu.Lock()
	l, epochs := s.logs[uuid], s.waiting[uuid]
	s.mu.Unlock()
	if l != nil || epochs == nil {
		return l, nil
	}
	l = &Log{s: s, uuid: uuid, next: folded + 1, void: map[string]struct{}{}}
	var useless []string
	for _, n := range epochs {
		if n <= folded {
			useless = append(useless, l.key(n))
			continue
		}
		l.epochs = append(l.epochs, &epoch{n: n, key: l.key(n), stale: true})
	}
	err := l.recover(ctx)
	if err == nil && len(useless) > 0 {
		err = partd.Delete(ctx, s.p, useless...)
	}
	if err != nil {
		l.Release()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, uuid)
	s.logs[uuid] = l
	return l, nil
}

// Waits reports whether the store has rows of a table for Claim.
func (s *Store) Waits(uuid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting[uuid] != nil
}

// Used returns how much memory the tail's rows take.
func (s *Store) Used() int64 { return s.used.Load() }

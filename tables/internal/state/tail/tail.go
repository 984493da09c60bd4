// Package tail stores small appends to tables in a partd store. Later, a fold moves the rows to the tables' files.
//
// The rows of a table are under the keys "<table uuid>/<epoch>", with epochs numbered from 0. A fold ends the current
// epoch, so that later appends use the next key. It writes the rows of ended epochs to files and adds the files to the
// table. The same commit sets a table property to the last folded epoch, so every row is either in the files or in a
// later epoch. Then the fold deletes the folded keys. The property's name contains the tail's ID, because each tail
// numbers its own epochs.
//
// docs/dev/invariants.md lists what must hold for tables (C1 to C12).
package tail

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/groupsync"
	"github.com/go-partd/partd/storekit"
)

// identityKey is the key whose value is "<warehouse ID> <tail ID>".
const identityKey = "partd-tables"

// Store contains the tails of all tables in a warehouse.
type Store struct {
	p         partd.Partd
	id        string
	sync      bool  // whether appends are synced before they are acknowledged
	memory    int64 // maximum size, in bytes, of rows kept in memory
	usedBytes atomic.Int64

	Failure atomic.Pointer[error] // wraps partd.ErrNeedsReopen if p refuses all further writes; otherwise nil

	written atomic.Uint64   // number of appends to the store, over all tables
	syncs   groupsync.Group // lets concurrent appends share a sync

	mu        sync.Mutex
	logs      map[string]*Log    // keyed by table UUID, because tables can be renamed
	unclaimed map[string][]int64 // epochs that Recover found and Claim has not read yet, by table UUID
}

// idLen is the length of a UUID in text form.
const idLen = 36

// Warehouse returns the ID of the warehouse whose tail is in p, or "" if p is empty.
func Warehouse(ctx context.Context, p partd.Partd) (string, error) {
	values, err := p.Get(ctx, identityKey)
	if err != nil {
		return "", err
	}
	id, _, _ := strings.Cut(string(values[0]), " ")
	return id, nil
}

// Open returns the tail in p, which must be empty or already contain the tail of the warehouse with the given ID. syncs
// says whether appends are synced before they are acknowledged. memory limits the size, in bytes, of rows kept in
// memory.
func Open(ctx context.Context, p partd.Partd, warehouse string, syncs bool, memory int64) (_ *Store, err error) {
	s := &Store{p: p, sync: syncs, memory: memory, logs: map[string]*Log{}, unclaimed: map[string][]int64{}}
	defer func() {
		if err == nil { // without a sync, a store may fail to open after a power failure
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
			if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("the tail's store is not empty, but contains the key %s: use an empty store", storekit.QuoteKey(k.Key))
		}
		if err := p.Append(ctx, partd.Entry{Key: identityKey, Value: []byte(warehouse + " " + uuid.NewString())}); err != nil {
			return nil, err
		}
		// Another process may have appended its ID first; the first ID counts.
		values, err = p.Get(ctx, identityKey)
		if err != nil {
			return nil, err
		}
	}
	storedWarehouse, id, ok := strings.Cut(string(values[0]), " ")
	if !ok || storedWarehouse != warehouse || len(id) < idLen {
		return nil, fmt.Errorf("the tail belongs to another directory: use a separate tail for each directory")
	}
	s.id = id[:idLen]
	return s, nil
}

// Flush makes the store's contents durable, if the store supports that.
func (s *Store) Flush(ctx context.Context) error {
	err := partd.Sync(ctx, s.p)
	if !s.sync && errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// note returns err, a write's error. If the store refuses all further writes, note remembers err.
func (s *Store) note(err error) error {
	if errors.Is(err, partd.ErrNeedsReopen) {
		failure := err // with &err, each call would allocate memory
		s.Failure.CompareAndSwap(nil, &failure)
	}
	return err
}

// Reclaimer is a store that can free the space of removed data immediately.
type Reclaimer interface {
	Reclaim(ctx context.Context) (freed int64, err error)
}

// Reclaim frees the space of folded rows immediately, if the store supports that.
func (s *Store) Reclaim(ctx context.Context) {
	for p := range storekit.Layers(s.p) {
		if p, ok := p.(Reclaimer); ok {
			_, _ = p.Reclaim(ctx) // the store logs failures
		}
	}
}

// Syncs reports whether appends are synced before they are acknowledged.
func (s *Store) Syncs() bool { return s.sync }

// ID returns the tail's ID.
func (s *Store) ID() string { return s.id }

// PropertyPrefix begins the names of the properties that record, for each tail, how far the table's rows have been
// moved into files. A restore does not change these properties.
const PropertyPrefix = "partd.tail-epoch."

// Property returns the name of the table property that records this tail's last folded epoch.
func (s *Store) Property() string { return PropertyPrefix + s.id }

// Folded returns the last folded epoch according to a table's properties, or -1 if they record none.
func (s *Store) Folded(properties map[string]string) int64 {
	n, err := strconv.ParseInt(properties[s.Property()], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// Recover finds the epochs in the store, but leaves reading them to Claim. existing reports, by UUID, which tables
// still exist. Recover deletes the epochs of deleted tables.
func (s *Store) Recover(ctx context.Context, existing func(uuids []string) (map[string]bool, error)) error {
	epochs := map[string][]int64{}
	for k, err := range partd.Keys(ctx, s.p) {
		if err != nil {
			return err
		}
		if k.Key == identityKey {
			continue
		}
		table, epochText, _ := strings.Cut(k.Key, "/")
		n, err := strconv.ParseInt(epochText, 10, 64)
		if err != nil {
			return fmt.Errorf("the tail's store contains the key %s, which the tail did not write", storekit.QuoteKey(k.Key))
		}
		epochs[table] = append(epochs[table], n)
	}
	exists, err := existing(slices.Collect(maps.Keys(epochs)))
	if err != nil {
		return err
	}
	var obsolete []string
	for table, numbers := range epochs {
		if exists[table] {
			s.unclaimed[table] = numbers
			continue
		}
		for _, n := range numbers {
			obsolete = append(obsolete, epochKey(table, n))
		}
	}
	if len(obsolete) == 0 {
		return nil
	}
	return partd.Delete(ctx, s.p, obsolete...)
}

// Claim returns a table's log, or nil if there is none. Unless an earlier Claim has done so, it reads the epochs that
// Recover found and deletes the folded ones. folded is the table's last folded epoch.
func (s *Store) Claim(ctx context.Context, uuid string, folded int64) (*Log, error) {
	s.mu.Lock()
	l, epochs := s.logs[uuid], s.unclaimed[uuid]
	s.mu.Unlock()
	if l != nil || epochs == nil {
		return l, nil
	}
	l = &Log{s: s, uuid: uuid, current: folded + 1, voidIDs: map[string]struct{}{}}
	var obsolete []string
	for _, n := range epochs {
		if n <= folded {
			obsolete = append(obsolete, l.key(n))
			continue
		}
		l.epochs = append(l.epochs, &epoch{number: n, key: l.key(n), stale: true})
	}
	err := l.recover(ctx)
	if err == nil && len(obsolete) > 0 {
		err = partd.Delete(ctx, s.p, obsolete...)
	}
	if err != nil {
		l.Release()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unclaimed, uuid)
	s.logs[uuid] = l
	return l, nil
}

// HasUnclaimed reports whether there are epochs of the table that Claim has not read yet.
func (s *Store) HasUnclaimed(uuid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unclaimed[uuid] != nil
}

// HasAnyUnclaimed reports whether there are epochs of any table that Claim has not read yet.
func (s *Store) HasAnyUnclaimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unclaimed) > 0
}

// UsedMemory returns the memory used by the tails' rows, in bytes.
func (s *Store) UsedMemory() int64 { return s.usedBytes.Load() }

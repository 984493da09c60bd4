package tail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/take"
)

// Log is the tail of one table. It is safe for concurrent use.
type Log struct {
	s    *Store
	uuid string

	mu      sync.Mutex
	next    int64 // the epoch that appends go to
	epochs  []*epoch
	updated time.Time
	pos     uint64              // of the last append, or reading, among those of all tables
	unsure  bool                // an append of unknown outcome may still arrive
	void    map[string]struct{} // ids whose rows count elsewhere
	kept    kept
}

// epoch is the value of one key.
type epoch struct {
	n      int64
	key    string
	schema *arrow.Schema // of its rows
	bytes  int64         // length of the value
	rows   int64
	since  time.Time // of the oldest append
	ids    map[string]time.Time
	stale  bool // the store may hold more than is known here: it must be read

	// What is also in memory, if held: batches that were decoded, and messages
	// that were not yet. mem is what they count for.
	held    bool
	mem     int64
	batches []arrow.RecordBatch
	pending [][]byte
}

// Log returns the log of a table, made where there is none.
func (s *Store) Log(uuid string, folded int64) *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[uuid]
	if l == nil {
		l = &Log{s: s, uuid: uuid, next: folded + 1, void: map[string]struct{}{}}
		s.logs[uuid] = l
	}
	return l
}

// Retire forgets a log if a new one would be the same, and reports whether it did.
func (s *Store) Retire(l *Log) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.epochs) > 0 || l.unsure {
		return false
	}
	delete(s.logs, l.uuid)
	return true
}

func (l *Log) key(n int64) string { return l.uuid + "/" + strconv.FormatInt(n, 10) }

// epoch returns an epoch that nothing is known of.
func (l *Log) epoch(n int64) *epoch {
	return &epoch{n: n, key: l.key(n), held: true, ids: map[string]time.Time{}}
}

// UUID is the table's.
func (l *Log) UUID() string { return l.uuid }

// recover reads what was found in the store.
func (l *Log) recover(ctx context.Context) error {
	slices.SortFunc(l.epochs, func(a, b *epoch) int { return cmp.Compare(a.n, b.n) })
	for _, e := range l.epochs {
		if err := l.load(ctx, e); err != nil {
			return err
		}
		l.next = e.n + 1
	}
	return nil
}

// load reads an epoch from the store, whatever is known of it.
func (l *Log) load(ctx context.Context, e *epoch) error {
	values, err := l.s.p.Get(ctx, e.key)
	if err != nil {
		return err
	}
	l.drop(e)
	l.keep(kept{}) // others may come to as many rows and bytes
	e.ids = nil    // none of its frames was counted yet
	n := l.epoch(e.n)
	for v := values[0]; len(v) > 0; {
		f, rest, err := next(v)
		if err != nil {
			return fmt.Errorf("tail key %s at offset %d: %w", e.key, len(values[0])-len(v), err)
		}
		if err := l.add(n, f, int64(len(v)-len(rest))); err != nil {
			return fmt.Errorf("tail key %s: %w", e.key, err)
		}
		v = rest
	}
	*e = *n
	l.pos = l.s.written.Add(1) // what was found may not be synced
	return nil
}

// add counts a frame that the store has.
func (l *Log) add(e *epoch, f frame, length int64) error {
	if e.schema == nil {
		if !f.schema {
			return errors.New("it does not begin with a schema")
		}
		schema, batches, err := decode(f.messages)
		if err != nil {
			return err
		}
		take.Release(batches)
		e.schema, e.since = schema, f.at
	}
	e.bytes += length
	if l.has(f.id) || e.has(f.id) {
		// An append of unknown outcome arrived after it was tried again.
		if !e.held || !f.schema {
			return nil
		}
		head, err := schemaMessage(e.schema)
		e.pending = append(e.pending, head)
		return err
	}
	e.rows += f.rows
	if f.id != "" {
		e.ids[f.id] = f.at
	}
	if f.at.After(l.updated) {
		l.updated = f.at
	}
	if e.held {
		e.pending = append(e.pending, f.messages)
		e.mem += length
		if l.s.used.Add(length) > l.s.memory {
			l.drop(e) // it is read again when it is needed
		}
	}
	return nil
}

// drop lets go of what an epoch holds in memory.
func (l *Log) drop(e *epoch) {
	take.Release(e.batches)
	l.s.used.Add(-e.mem)
	e.held, e.mem, e.batches, e.pending = false, 0, nil, nil
}

// Forget removes the epochs up to one, which are folded or of no use any more.
// What cannot be deleted from the store is deleted by a later Recover.
func (l *Log) Forget(ctx context.Context, upTo int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(kept{})
	var keys []string
	for len(l.epochs) > 0 && l.epochs[0].n <= upTo {
		keys = append(keys, l.epochs[0].key)
		l.drop(l.epochs[0])
		l.epochs = slices.Delete(l.epochs, 0, 1)
	}
	l.next = max(l.next, upTo+1)
	if len(l.epochs) == 0 {
		clear(l.void)
	}
	if len(keys) == 0 {
		return nil
	}
	return partd.Delete(ctx, l.s.p, keys...)
}

// Discard forgets a log with all that it holds.
func (s *Store) Discard(ctx context.Context, l *Log) error {
	last, ok, err := l.Turn(ctx)
	if err == nil && ok {
		err = l.Forget(ctx, last)
	}
	if err != nil {
		return err
	}
	s.Retire(l)
	if s.sync {
		err = s.Flush(ctx) // so that a loss of power brings nothing back
	}
	return err
}

// Release lets go of the memory of a log that is not used for now. The store
// keeps what it has.
func (l *Log) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(kept{})
	for _, e := range l.epochs {
		l.drop(e)
	}
}

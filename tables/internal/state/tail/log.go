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
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Log is the tail of one table. It is safe for concurrent use.
type Log struct {
	s    *Store
	uuid string

	mu         sync.Mutex
	current    int64 // number of the current epoch
	epochs     []*epoch
	updated    time.Time           // newest time of an append
	pos        uint64              // value of Store.written after the last append or read
	hasUnknown bool                // whether the store may still execute an append whose outcome was unknown
	voidIDs    map[string]struct{} // IDs of puts whose rows this log ignores; see Void
	cached     cachedResult
}

// epoch is a sequence of appends, which the store keeps as the value of one key.
type epoch struct {
	number int64
	key    string
	schema *arrow.Schema
	bytes  int64 // length of the value
	rows   int64
	oldest time.Time  // time of the oldest append
	counts []rowCount // row counts of the appends, by time

	versions []int64 // the versions that puts returned, each once

	ids   map[string]time.Time // times of the appends that have an ID, by ID
	stale bool                 // whether the value must be reread before its next use, because the store may contain other appends

	// If inMemory is true, the rows are also in memory, with a total size of memBytes: first the decoded batches, then
	// the pending messages, which have not been decoded yet.
	inMemory bool
	memBytes int64
	batches  []arrow.RecordBatch
	pending  [][]byte
}

// rowCount is the number of rows appended in the millisecond millis, a Unix time. It includes the rows of the following
// appends if their time is the same or earlier.
type rowCount struct{ millis, rows int64 }

// Log returns a table's log. It creates the log if necessary. folded is the table's last folded epoch.
func (s *Store) Log(uuid string, folded int64) *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[uuid]
	if l == nil {
		l = &Log{s: s, uuid: uuid, current: folded + 1, voidIDs: map[string]struct{}{}}
		s.logs[uuid] = l
	}
	return l
}

// Retire removes a log from s and returns true, unless the log has epochs or an append whose outcome is unknown.
func (s *Store) Retire(l *Log) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.epochs) > 0 || l.hasUnknown {
		return false
	}
	delete(s.logs, l.uuid)
	return true
}

func (l *Log) key(n int64) string { return epochKey(l.uuid, n) }

func epochKey(uuid string, n int64) string { return uuid + "/" + strconv.FormatInt(n, 10) }

func (l *Log) epoch(number int64) *epoch {
	return &epoch{number: number, key: l.key(number), inMemory: true, ids: map[string]time.Time{}}
}

// UUID returns the table's UUID.
func (l *Log) UUID() string { return l.uuid }

func (l *Log) recover(ctx context.Context) error {
	slices.SortFunc(l.epochs, func(a, b *epoch) int { return cmp.Compare(a.number, b.number) })
	for _, e := range l.epochs {
		if err := l.load(ctx, e); err != nil {
			return err
		}
		l.current = e.number + 1
	}
	return nil
}

func (l *Log) load(ctx context.Context, e *epoch) error {
	values, err := l.s.p.Get(ctx, e.key)
	if err != nil {
		return err
	}
	l.drop(e)
	l.setCached(cachedResult{}) // the rows may have changed although their fingerprint is the same
	e.ids = nil                 // otherwise, add would take the stored frames for duplicates
	newEpoch := l.epoch(e.number)
	for v := values[0]; len(v) > 0; {
		f, remaining, err := nextFrame(v)
		if err != nil {
			return fmt.Errorf("tail key %s at offset %d: %w", e.key, len(values[0])-len(v), err)
		}
		if err := l.add(newEpoch, f, int64(len(v)-len(remaining))); err != nil {
			return fmt.Errorf("tail key %s: %w", e.key, err)
		}
		v = remaining
	}
	*e = *newEpoch
	l.pos = l.s.written.Add(1) // the rows may not be durable yet, so make Applied wait for a sync
	return nil
}

// add adds a stored frame of the given length to an epoch.
func (l *Log) add(e *epoch, f frame, length int64) error {
	if e.schema == nil {
		if !f.schema {
			return errors.New("the value does not begin with a schema")
		}
		schema, batches, err := decode(f.messages)
		if err != nil {
			return err
		}
		take.Release(batches)
		e.schema, e.oldest = schema, f.timestamp
	}
	e.bytes += length
	if l.hasID(f.id) || e.hasID(f.id) {
		// Skip the frame: its append was retried after an unknown outcome, or Void was called for it.
		if !e.inMemory || !f.schema {
			return nil
		}
		schemaBytes, err := schemaMessage(e.schema)
		e.pending = append(e.pending, schemaBytes)
		return err
	}
	e.rows += f.rows
	if f.version > 0 && !slices.Contains(e.versions, f.version) {
		e.versions = append(e.versions, f.version)
	}
	millis, n := f.timestamp.UnixMilli(), len(e.counts)
	if n > 0 && millis <= e.counts[n-1].millis {
		e.counts[n-1].rows += f.rows
	} else {
		e.counts = append(e.counts, rowCount{millis, f.rows})
	}
	if f.id != "" {
		e.ids[f.id] = f.timestamp
	}
	if f.timestamp.After(l.updated) {
		l.updated = f.timestamp
	}
	if e.inMemory {
		e.pending = append(e.pending, f.messages)
		e.memBytes += length
		if l.s.usedBytes.Add(length) > l.s.memory {
			l.drop(e)
		}
	}
	return nil
}

// drop releases the memory of an epoch's rows. They are read from the store again when needed.
func (l *Log) drop(e *epoch) {
	take.Release(e.batches)
	l.s.usedBytes.Add(-e.memBytes)
	e.inMemory, e.memBytes, e.batches, e.pending = false, 0, nil, nil
}

// Forget removes the epochs up to and including upTo. If it fails to delete a key, a later Recover deletes it.
func (l *Log) Forget(ctx context.Context, upTo int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setCached(cachedResult{})
	var keys []string
	for len(l.epochs) > 0 && l.epochs[0].number <= upTo {
		keys = append(keys, l.epochs[0].key)
		l.drop(l.epochs[0])
		l.epochs = slices.Delete(l.epochs, 0, 1)
	}
	l.current = max(l.current, upTo+1)
	if len(l.epochs) == 0 {
		clear(l.voidIDs)
	}
	if len(keys) == 0 {
		return nil
	}
	return l.s.note(partd.Delete(ctx, l.s.p, keys...))
}

// Discard deletes a log and its epochs.
func (s *Store) Discard(ctx context.Context, l *Log) error {
	last, ok, err := l.EndEpoch(ctx)
	if err == nil && ok {
		err = l.Forget(ctx, last)
	}
	if err != nil {
		return err
	}
	s.Retire(l)
	if s.sync {
		err = s.Flush(ctx) // otherwise, the rows could reappear after a power failure
	}
	return err
}

// Release frees the memory of a log that is no longer used. The rows stay in the store.
func (l *Log) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setCached(cachedResult{})
	for _, e := range l.epochs {
		l.drop(e)
	}
}

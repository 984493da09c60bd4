package shuffle

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"reflect"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/engine/spill"
)

// tables assigns the hash tables of a [hashagg.Aggregator] to feeds. A new feed shares a table
// only if there are already as many open tables as threads.
type tables[T any] struct {
	engine     *hashagg.Aggregator
	temp       *tempdir.Set
	threads    int
	mu         sync.Mutex
	openTables []*sharedTable[T]
	meter      *meter
}

func (s *tables[T]) start(ctx context.Context, c config[T], o hashagg.Options) (err error) {
	o.Memory, o.Threads, o.Temp = c.Memory, c.Threads, c.temp
	s.temp, s.threads, s.meter = c.temp, c.Threads, c.meter
	s.engine, err = hashagg.New(ctx, o)
	return err
}

func (s *tables[T]) stats() Stats {
	t := orZero(s.engine).Stats()
	return Stats{Records: t.Records, Groups: t.Groups, Spilled: t.Written}
}

func (s *tables[T]) close() error { return errors.Join(orZero(s.engine).Close(), s.temp.Close()) }

// results yields the result of decode for each group. decode also returns the size in bytes that
// [Progress] counts as output. Call results once.
func results[T, R any](s *tables[T], decode func(hashagg.Group) (r R, size int, err error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		s.mu.Lock()
		feeds := 0
		for _, t := range s.openTables {
			feeds += t.feeds
		}
		s.mu.Unlock()
		if feeds > 0 && orZero(s.engine).Err() == nil {
			yield(*new(R), spill.OpenWritersError(feeds)) // the engine counts tables, which feeds share
			return
		}
		tally := s.meter.newOutTally()
		defer tally.end()
		for g, err := range orZero(s.engine).Groups() {
			var r R
			var size int
			if err == nil {
				r, size, err = decode(g)
			}
			if err != nil {
				yield(*new(R), err)
				return
			}
			tally.count(size)
			if !yield(r, nil) {
				return
			}
		}
	}
}

// sharedTable is a table that one or more feeds use.
type sharedTable[T any] struct {
	mu     sync.Mutex // all feeds of the table use it as Feed.mu
	feeds  int        // guarded by tables.mu
	table  *hashagg.Table
	encode func(dst []byte, v T) ([]byte, error)
	put    func(v *T, state []uint64, isNew bool) error
	err    error

	// Pending records are collected, because looking up many keys together is faster.
	limit   int // maximum number of pending records
	buf     []byte
	ends    []int // the ends of the keys in buf
	keys    [][]byte
	pending []T
	busy    bool // put is running, or has panicked
}

// errPanicked is returned by calls that follow a panic in the caller's code.
var errPanicked = errorf("one of the caller's functions has panicked, so records were lost: start the job again")

const maxPending = 256

// feed returns a feed that adds records to a new table while there are fewer tables than threads, and otherwise to the
// table with the fewest feeds. encode appends the key of v to dst. newPut is called once per table and returns the
// function that adds a record to the state of its key.
func (s *tables[T]) feed(encode func(dst []byte, v T) ([]byte, error), newPut func(*hashagg.Table) func(v *T, state []uint64, isNew bool) error) (*Feed[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &sharedTable[T]{limit: 1, encode: encode}
	if len(s.openTables) < max(s.threads, 1) {
		table, err := orZero(s.engine).Table()
		if err != nil {
			return nil, err
		}
		t.table, t.put = table, newPut(table)
		// Batch records only if they consist of strings and plain values, which the caller cannot modify after Add.
		if consistsOf(reflect.TypeFor[T](), func(k reflect.Kind) bool { return k == reflect.String || isPlainKind(k) }) {
			t.limit = maxPending
		}
		s.openTables = append(s.openTables, t)
	} else {
		t = slices.MinFunc(s.openTables, func(a, b *sharedTable[T]) int { return a.feeds - b.feeds })
	}
	t.feeds++
	tally := s.meter.newInTally()
	return &Feed[T]{
		mu: &t.mu, tally: tally,
		add:    func(v T) error { return t.add(v, tally) },
		finish: func() error { return s.finish(t) },
	}, nil
}

func (t *sharedTable[T]) add(v T, tally *tally) error {
	if t.err == nil {
		size, err := t.collect(v)
		t.err = cmp.Or(t.err, err)
		tally.add(size)
	}
	return t.err
}

// collect adds a record to pending and returns the length of its key.
func (t *sharedTable[T]) collect(v T) (size int, err error) {
	if t.busy {
		return 0, errPanicked
	}
	from := len(t.buf)
	t.buf, err = t.encode(t.buf, v)
	if err != nil {
		return 0, err
	}
	size = len(t.buf) - from
	t.ends = append(t.ends, len(t.buf))
	t.pending = append(t.pending, v)
	if len(t.pending) < t.limit {
		return size, nil
	}
	return size, t.flush()
}

// flush adds the pending records to the table, in order.
func (t *sharedTable[T]) flush() error {
	if t.busy {
		return errPanicked
	}
	t.busy = true
	from := 0
	for _, end := range t.ends {
		t.keys = append(t.keys, t.buf[from:end:end])
		from = end
	}
	err := t.table.GetMany(t.keys, func(i int, state []uint64, isNew bool) {
		if t.err == nil {
			t.err = t.put(&t.pending[i], state, isNew)
		}
	})
	clear(t.pending) // so that the garbage collector can free the records' strings
	t.buf, t.ends, t.keys, t.pending, t.busy = t.buf[:0], t.ends[:0], t.keys[:0], t.pending[:0], false
	return err
}

// finish ends a feed. If it is the last feed of t, finish adds the pending records and closes
// the table. t.mu must be held.
func (s *tables[T]) finish(t *sharedTable[T]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.feeds--
	if t.feeds > 0 {
		return t.err
	}
	s.openTables = slices.DeleteFunc(s.openTables, func(o *sharedTable[T]) bool { return o == t })
	err := t.err
	if err == nil {
		err = t.flush()
		err = errors.Join(err, t.err)
	}
	return errors.Join(err, t.table.Close())
}

package shuffle

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/tempdir"
)

// tables shares the tables of an engine among feeds: each gets one of its own as
// long as there is memory for more, and then shares one.
type tables[T any] struct {
	engine  *hashagg.Aggregator
	temp    *tempdir.Set
	threads int
	mu      sync.Mutex
	open    []*sharedTable[T]
	meter   *meter
}

// start makes the engine.
func (s *tables[T]) start(ctx context.Context, c config[T], o hashagg.Options) (err error) {
	o.Memory, o.Threads, o.Temp = c.Memory, c.Threads, c.temp
	s.temp, s.threads, s.meter = c.temp, c.Threads, c.meter
	s.engine, err = hashagg.New(ctx, o)
	return err
}

// Stats returns statistics about the work done so far.
func (s *tables[T]) Stats() Stats {
	t := orZero(s.engine).Stats()
	return Stats{Records: t.Records, Groups: t.Groups, Spilled: t.Written}
}

// Close ends everything and removes all temporary data. Do not call it while a
// feed or a loop over results is in use.
func (s *tables[T]) Close() error { return errors.Join(orZero(s.engine).Close(), s.temp.Close()) }

// results yields, once, what decode makes of each key's group, of so many bytes.
func results[T, R any](s *tables[T], decode func(hashagg.Group) (r R, size int, err error)) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		out := s.meter.reading()
		defer out.end()
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
			out.count(size)
			if !yield(r, nil) {
				return
			}
		}
	}
}

// sharedTable is a table that one feed uses, or several in turn.
type sharedTable[T any] struct {
	mu      sync.Mutex // of its feeds
	feeds   int        // guarded by tables.mu
	table   *hashagg.Table
	pending *pending[T]
	encode  func(dst []byte, v T) ([]byte, error)
	err     error
}

// feed returns a feed. use makes what puts records into a new table; encode
// appends the key of a record.
func (s *tables[T]) feed(encode func(dst []byte, v T) ([]byte, error), use func(*hashagg.Table) func(v *T, state []uint64, isNew bool) error) (*Feed[T], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &sharedTable[T]{}
	if len(s.open) < max(s.threads, 1) {
		table, err := orZero(s.engine).Table()
		if err != nil {
			return nil, err
		}
		put := use(table)
		t.table, t.encode = table, encode
		t.pending = newPending(table, func(v *T, state []uint64, isNew bool) {
			if t.err == nil {
				t.err = put(v, state, isNew)
			}
		})
		s.open = append(s.open, t)
	} else {
		t = slices.MinFunc(s.open, func(a, b *sharedTable[T]) int { return a.feeds - b.feeds })
	}
	t.feeds++
	tally := s.meter.feeding()
	return &Feed[T]{
		mu: &t.mu, tally: tally,
		add:    func(v T) error { return t.add(v, tally) },
		finish: func() error { return s.finish(t) },
	}, nil
}

func (t *sharedTable[T]) add(v T, tally *tally) error {
	if t.err == nil {
		size, err := t.pending.add(v, t.encode)
		if err != nil && t.err == nil {
			t.err = err
		}
		tally.add(size)
	}
	return t.err
}

// finish ends a feed. The last of a table puts in what is left. The table's mu
// is held.
func (s *tables[T]) finish(t *sharedTable[T]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.feeds--; t.feeds > 0 {
		return t.err
	}
	s.open = slices.DeleteFunc(s.open, func(o *sharedTable[T]) bool { return o == t })
	err := t.err
	if err == nil {
		err = t.pending.flush()
		err = errors.Join(err, t.err)
	}
	return errors.Join(err, t.table.Close())
}

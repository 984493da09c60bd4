package shuffle

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/go-partd/partd/internal/spill"
)

// Feed accepts records. It is safe for concurrent use, but one feed per
// goroutine is faster.
type Feed[T any] struct {
	mu     *sync.Mutex // of what add, finish and tally change
	add    func(T) error
	finish func() error
	tally  *tally
	err    error
	closed bool
}

// newFeed returns a feed that hands the encoded key and record of each to put.
func newFeed[T any](t *tally, appendKey, encode func(dst []byte, v T) ([]byte, error), put func(key, record []byte) error, finish func() error) *Feed[T] {
	var key, record []byte
	return &Feed[T]{mu: new(sync.Mutex), tally: t, finish: finish, add: func(v T) (err error) {
		if key, err = appendKey(key[:0], v); err != nil {
			return fmt.Errorf("encoding a key: %w", err)
		}
		if record, err = encode(record[:0], v); err != nil {
			return fmt.Errorf("encoding a record: %w", err)
		}
		t.add(len(record))
		return put(key, record)
	}}
}

// Add adds a record to an accumulator. When it returns, everything that the
// record refers to belongs to the caller again. After an error the feed
// accepts no more records.
func (f *Feed[T]) Add(v T) error {
	due, err := f.addLocked(v)
	if due {
		f.tally.tell()
	}
	return err
}

func (f *Feed[T]) addLocked(v T) (due bool, err error) {
	if f.mu == nil {
		return false, spill.ErrNotOpened
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return false, f.err
	}
	if err := f.add(v); err != nil {
		f.err = err
		return false, err
	}
	return f.tally.due(), nil
}

// Close ends the feed. Close all feeds before you read results.
func (f *Feed[T]) Close() error {
	ended, err := f.close()
	if ended {
		f.tally.end()
	}
	return err
}

func (f *Feed[T]) close() (ended bool, err error) {
	if f.mu == nil {
		return false, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, nil
	}
	f.closed = true
	err = errors.Join(f.err, f.finish())
	f.err = cmp.Or(f.err, fmt.Errorf("a feed of records: %w", ErrClosed))
	return true, err
}

// source is what can be fed.
type source[T any] interface {
	Feed() (*Feed[T], error)
	Close() error
}

// feedAll puts all of an iterator in.
func feedAll[T any](open func() (*Feed[T], error), in iter.Seq2[T, error]) (err error) {
	f, err := open()
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	for v, err := range orFailing(in) {
		if err == nil {
			err = f.add(v) // nobody else has this feed
			f.err = err
		}
		if err != nil {
			return err
		}
		if f.tally.due() {
			f.tally.tell()
		}
	}
	return nil
}

// orFailing returns a sequence, or for nil one that is an error.
func orFailing[T any](seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	if seq == nil {
		return func(yield func(T, error) bool) { yield(*new(T), errors.New("the iterator of records is nil")) }
	}
	return seq
}

// orZero returns what p points to, or for nil a zero value, which says that nobody made it.
func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// pipe makes one iterator of another: it makes s, puts in into it, and yields
// what out then has.
func pipe[T, R any, S source[T]](in iter.Seq2[T, error], start func() (S, error), out func(S) iter.Seq2[R, error]) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var none R
		s, err := start()
		if err != nil {
			yield(none, err)
			return
		}
		heard := false // nor does anybody hear what fails where the caller's code panics
		defer func() {
			if err = errors.Join(err, s.Close()); err != nil && heard {
				yield(none, err)
			}
		}()
		if err = feedAll(s.Feed, in); err == nil {
			for r, failed := range out(s) {
				if err = failed; err != nil {
					break
				}
				if !yield(r, nil) {
					return
				}
			}
		}
		heard = true
	}
}

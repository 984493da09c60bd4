package shuffle

import (
	"cmp"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/go-partd/partd/internal/engine/spill"
)

// Feed accepts records. It is safe for concurrent use, but a feed for each goroutine is
// faster.
type Feed[T any] struct {
	mu     *sync.Mutex // guards the fields below; held during add and finish
	add    func(T) error
	finish func() error
	tally  *tally
	err    error
	closed bool
}

// newFeed returns a feed. For each record, the feed calls put with the encoded key and record.
func newFeed[T any](t *tally, appendKey, encode func(dst []byte, v T) ([]byte, error), put func(key, record []byte) error, finish func() error) *Feed[T] {
	var key, record []byte
	return &Feed[T]{mu: new(sync.Mutex), tally: t, finish: finish, add: func(v T) (err error) {
		key, err = appendKey(key[:0], v)
		if err != nil {
			return errorf("encoding a key: %w", err)
		}
		record, err = encode(record[:0], v)
		if err != nil {
			return errorf("encoding a record: %w", err)
		}
		t.add(len(record))
		return put(key, record)
	}}
}

// Add adds a record. When it returns, the caller can modify everything that the record
// refers to. After an error, the feed accepts no more records.
func (f *Feed[T]) Add(v T) error {
	due, err := f.addLocked(v)
	if due {
		f.tally.report()
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

// Close ends the feed. Close all feeds before reading results.
func (f *Feed[T]) Close() error {
	closed, err := f.close()
	if closed {
		f.tally.end()
	}
	return err
}

func (f *Feed[T]) close() (closed bool, err error) {
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
	f.err = cmp.Or(f.err, errorf("a feed of records: %w", ErrClosed))
	return true, err
}

func feedAll[T any](open func() (*Feed[T], error), in iter.Seq2[T, error]) (err error) {
	f, err := open()
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	for v, err := range orFailing(in) {
		if err == nil {
			err = f.add(v) // without the lock, because this feed is not shared
			f.err = err
		}
		if err != nil {
			return err
		}
		if f.tally.due() {
			f.tally.report()
		}
	}
	return nil
}

func orFailing[T any](seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	if seq == nil {
		return func(yield func(T, error) bool) { yield(*new(T), argumentErrorf("the iterator of records is nil")) }
	}
	return seq
}

// orZero returns p or, if p is nil, a pointer to a zero value. p is nil if the caller did not use a
// constructor.
func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// pipe returns an iterator over the results of a job. The iterator starts the job with start, feeds
// the records of in to a feed from open, and then yields the values of out.
func pipe[T, R any, S io.Closer](in iter.Seq2[T, error], start func() (S, error), open func(S) (*Feed[T], error), out func(S) iter.Seq2[R, error]) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		var zero R
		s, err := start()
		if err != nil {
			yield(zero, err)
			return
		}
		canYield := false // false while the caller's code runs: if that code panics, yield must not be called
		defer func() {
			err = errors.Join(err, s.Close())
			if err != nil && canYield {
				yield(zero, err)
			}
		}()
		err = feedAll(func() (*Feed[T], error) { return open(s) }, in)
		if err == nil {
			for r, outErr := range out(s) {
				err = outErr
				if err != nil {
					break
				}
				if !yield(r, nil) {
					return
				}
			}
		}
		canYield = true
	}
}

package logstore

import (
	"context"
	"errors"
	"iter"
	"math"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// Scan yields every key with its whole value. A scan that comes to the end has
// read all that was ever appended to the store, and compared it with the
// ledger.
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return scanItems(ctx, s, "scan", false, func(b *scanBatch, it *scanItem) partd.Chunk {
		return partd.Chunk{
			Key: string(b.key(it)), Offset: it.offset, Data: b.data[it.at : it.at+it.n : it.at+it.n], Last: it.last,
		}
	})
}

// Keys yields each key once with its size. It reads the store but for large
// values and, mostly, those of hot keys.
func (s *Store) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return scanItems(ctx, s, "keys", true, func(b *scanBatch, it *scanItem) partd.KeyInfo {
		return partd.KeyInfo{Key: string(b.key(it)), Size: it.size}
	})
}

func scanItems[T any](ctx context.Context, s *Store, op string, keysOnly bool, item func(b *scanBatch, it *scanItem) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := s.scan(ctx, keysOnly, func(b *scanBatch) bool {
			for i := range b.items {
				if !yield(item(b, &b.items[i]), nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			var none T
			yield(none, s.errorf(op, err))
		}
	}
}

// Stat counts keys and bytes, which takes what Keys takes.
func (s *Store) Stat(ctx context.Context) (partd.Stats, error) {
	var st partd.Stats
	err := s.scan(ctx, true, func(b *scanBatch) bool {
		for i := range b.items {
			st.Keys++
			st.Bytes += b.items[i].size
		}
		return true
	})
	if err == nil {
		st.Disk, err = s.diskUsed()
	}
	if err != nil {
		return partd.Stats{}, s.errorf("stat", err)
	}
	st.Memory = s.MemoryUsed()
	return st, nil
}

func (s *Store) diskUsed() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, partd.ErrClosed
	}
	var n int64
	for _, f := range s.catalog.files.files() {
		info, err := f.f.Info()
		if err != nil {
			return 0, err
		}
		if f.Kind == segment.BlobFile {
			info.Size = min(info.Size, info.Disk) // it may have holes
		}
		n += info.Size
	}
	size, err := s.wal.size()
	return n + size, err
}

var errStopped = errors.New("the reader stopped")

// scan hands the content of the store to use, batch by batch, until that
// returns false. Reading and grouping is done by a goroutine of its own, one
// or two batches ahead.
func (s *Store) scan(ctx context.Context, keysOnly bool, use func(*scanBatch) bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v, err := s.scanView(ctx)
	if err != nil {
		return err
	}
	sc := s.newScanner(ctx, v, keysOnly)
	done := make(chan error, 1)
	go func() {
		err := sc.produce()
		close(sc.out)
		done <- err
	}()
	stopped := false
	func() {
		// use is the caller's code, which may panic.
		defer func() {
			close(sc.stop)
			for range sc.out { // until the producer noticed
			}
			err = <-done
			err = errors.Join(err, sc.close())
		}()
		for b := range sc.out {
			if !use(b) {
				stopped = true
				return
			}
			b.reset()
			sc.free <- b
		}
	}()
	if stopped {
		return nil
	}
	return err
}

func (s *Store) scanView(ctx context.Context) (*view, error) {
	if s.canFlush() {
		return s.flushedView(ctx, 0, math.MaxUint64)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewLocked(0, math.MaxUint64)
}

// scanner reads a view in order of hashes, a few ranges at a time.
type scanner struct {
	ctx       context.Context
	s         *Store
	v         *view
	keysOnly  bool
	exclusive bool // has the memory set aside for reads

	limit      int64 // bytes that may be loaded at once
	batchBytes int   // bytes that are grouped, and handed over, at once
	bits       uint8

	out, free chan *scanBatch
	stop      chan struct{}
	emitter

	ledger   Ledger
	streamed map[string]uint64 // keys of the interval that have runs of their own
	run      segment.Reader
	raw      []byte // what is loaded
	arenas   [2][]byte
	grouper
}

func (s *Store) newScanner(ctx context.Context, v *view, keysOnly bool) *scanner {
	sc := &scanner{
		ctx: ctx, s: s, v: v, keysOnly: keysOnly, bits: v.bits(),
		limit: s.readBytes, batchBytes: 2 << 20,
		out: make(chan *scanBatch, 2), free: make(chan *scanBatch, 2), stop: make(chan struct{}),
	}
	sc.exclusive = s.scanning.CompareAndSwap(false, true)
	if !sc.exclusive {
		sc.limit = min(sc.limit, 1<<20)
		sc.batchBytes = 256 << 10
	}
	sc.batchBytes = int(min(int64(sc.batchBytes), max(sc.limit/8, 64<<10)))
	if s.hooks.batchBytes > 0 {
		sc.batchBytes = s.hooks.batchBytes
	}
	for range cap(sc.free) {
		sc.free <- &scanBatch{}
	}
	sc.emitter = emitter{sc: sc}
	return sc
}

func (sc *scanner) close() error {
	for _, a := range sc.arenas {
		offheap.Release(a)
	}
	if sc.exclusive {
		sc.s.scanning.Store(false)
	}
	return sc.v.close()
}

// produce reads everything and compares it with the ledger.
func (sc *scanner) produce() error {
	err := sc.intervals()
	if err == nil {
		err = sc.send()
	}
	if err == errStopped {
		return nil
	}
	if err != nil || sc.keysOnly {
		return err
	}
	if err := sc.v.ledger().diff(sc.ledger); err != nil {
		return &partd.CorruptError{Path: sc.s.dir, Offset: -1, Err: err}
	}
	return nil
}

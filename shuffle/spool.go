package shuffle

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/logstore"
)

// spool appends records to the keys in a store. It counts the records, to verify later that all of
// them are read back. A value is a sequence of encoded records. Each record is preceded by its
// length, as a uvarint.
type spool struct {
	engine   spill.Engine // engine.Mu guards input; engine.Memory is for reading the records back
	store    partd.Partd
	ownStore *logstore.Store // the same store, if the spool created it; otherwise nil

	batchSize int // maximum bytes that a feed appends in one batch
	// counts and hashes all records; the hashed bytes are key length, key, encoding length and encoding
	input ledger.Count
}

// Limits of the batch that a feed appends. The store may require smaller batches.
const (
	maxBatchBytes   = 256 << 10
	maxBatchRecords = 4096
)

func newSpool[T any](ctx context.Context, resolved config[T]) (*spool, error) {
	storeMemory := min(max(resolved.Memory*3/4, logstore.MinMemory), logstore.MaxMemory)
	s := &spool{store: resolved.Store, engine: spill.Engine{Memory: resolved.Memory / 8, Threads: resolved.Threads, Temp: resolved.temp}}
	if s.store == nil {
		dir, err := resolved.temp.Mkdir()
		if err != nil {
			return nil, errors.Join(err, resolved.temp.Close())
		}
		s.ownStore, err = logstore.Open(dir, &logstore.Options{Memory: storeMemory})
		if err != nil {
			return nil, errors.Join(err, resolved.temp.Close())
		}
		s.store = s.ownStore
	} else if err := checkEmpty(ctx, s.store); err != nil {
		return nil, err
	}
	// Leave room for the batches of other feeds.
	s.batchSize = min(maxBatchBytes, partd.BatchBytes(s.store)/2, int(resolved.Memory/128))
	return s, s.engine.Start(ctx, "grouping", 1)
}

func checkEmpty(ctx context.Context, store partd.Partd) error {
	for _, err := range partd.Keys(ctx, store) {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // the store cannot list keys; if it has other data, the checksums will not match at the end
		}
		if err != nil {
			return err
		}
		return argumentErrorf("option Store: the store already has keys: drop them first, or use an empty store")
	}
	return nil
}

// spoolFeed collects the records of one feed and appends them in batches.
type spoolFeed struct {
	s       *spool
	buf     []byte
	entries []partd.Entry
	input   ledger.Count
}

func (s *spool) feed() (*spoolFeed, error) {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	if err := s.engine.OpenWriter(); err != nil {
		return nil, err
	}
	return &spoolFeed{s: s, buf: make([]byte, 0, s.batchSize), entries: make([]partd.Entry, 0, 256)}, nil
}

func (f *spoolFeed) add(key, record []byte) error {
	size := len(key) + len(record) + 2*binary.MaxVarintLen64
	if len(f.buf)+size > cap(f.buf) || len(f.entries) == maxBatchRecords {
		if err := f.flush(); err != nil {
			return err
		}
		if size > cap(f.buf) { // the entries point into the buffer, so append must not move it
			f.buf = make([]byte, 0, size)
		}
	}
	start := len(f.buf)
	f.buf = binary.AppendUvarint(f.buf, uint64(len(key)))
	keyStart := len(f.buf)
	f.buf = append(f.buf, key...)
	valueStart := len(f.buf)
	f.buf = binary.AppendUvarint(f.buf, uint64(len(record)))
	f.buf = append(f.buf, record...)
	f.input.AddRecord(f.buf[start:])
	f.entries = append(f.entries, partd.Entry{
		Key:   unsafe.String(unsafe.SliceData(f.buf[keyStart:valueStart]), valueStart-keyStart),
		Value: f.buf[valueStart:len(f.buf):len(f.buf)],
	})
	return nil
}

func (f *spoolFeed) flush() error {
	if len(f.entries) == 0 {
		return nil
	}
	for entries := range partd.Batches(f.entries, f.s.batchSize) {
		if err := f.s.store.Append(f.s.engine.Ctx, entries...); err != nil {
			return err
		}
	}
	clear(f.entries)
	f.buf, f.entries = f.buf[:0], f.entries[:0]
	if cap(f.buf) > f.s.batchSize {
		f.buf = make([]byte, 0, f.s.batchSize)
	}
	return nil
}

// close ends the feed. If failed is set, it discards the records that are not yet in the store.
func (f *spoolFeed) close(failed bool) error {
	var err error
	if !failed {
		err = f.flush()
	}
	f.s.engine.Mu.Lock()
	defer f.s.engine.Mu.Unlock()
	f.s.engine.Writers--
	f.s.input.Add(f.input)
	f.buf, f.entries = nil, nil
	return err
}

// startReading ends feeding. It can be called again, to read the records again.
func (s *spool) startReading() error {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	s.engine.Reading = false
	return s.engine.StartReading()
}

// close closes the store if it is temporary and removes all temporary data.
func (s *spool) close() error {
	err := s.engine.Close(func() error {
		if s.ownStore == nil {
			return nil
		}
		return s.ownStore.Close()
	})
	return errors.Join(err, s.engine.Temp.Close())
}

// keyed stores records under their keys. Grouper and Partitions use it.
type keyed[T, K any] struct {
	appendKey  func(dst []byte, v T) ([]byte, error)
	codec      encode.ValueCodec[T]
	keyCodec   encode.ValueCodec[K]
	spool      *spool
	groupCount *atomic.Int64
	meter      *meter
}

func newKeyed[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (k keyed[T, K], err error) {
	if key == nil {
		return k, argumentErrorf("the key function is nil: pass a function")
	}
	keyCodec, err := newKeyCodec[K]()
	if err != nil {
		return k, err
	}
	appendKey := func(dst []byte, v T) ([]byte, error) { return keyCodec.Encode(dst, key(v)) }
	k = keyed[T, K]{appendKey: appendKey, keyCodec: keyCodec, groupCount: new(atomic.Int64)}
	resolved, err := o.resolve()
	if err != nil {
		return k, err
	}
	k.codec, k.meter = resolved.Codec, resolved.meter
	k.spool, err = newSpool(ctx, resolved)
	return k, err
}

func (k *keyed[T, K]) feed() (*Feed[T], error) {
	sink, err := orZero(k.spool).feed()
	if err != nil {
		return nil, err
	}
	feed := newFeed(k.meter.newInTally(), k.appendKey, k.codec.Encode, sink.add, nil)
	feed.finish = func() error { return sink.close(feed.err != nil) }
	return feed, nil
}

func (k *keyed[T, K]) stats() Stats {
	s := orZero(k.spool)
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	return Stats{Records: s.input.Records, Groups: orZero(k.groupCount).Load()}
}

func (k *keyed[T, K]) close() error { return orZero(k.spool).close() }

package shuffle

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"unsafe"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/logstore"
)

// spool puts records under keys into a store, and keeps account of them. What it
// appends is the length of a record's encoding as a uvarint, and the encoding.
type spool struct {
	engine spill.Engine // its Mu guards what changes, its Memory is for reading back
	store  partd.Partd
	own    *logstore.Store // where the store is a temporary one

	batch int // bytes that a feed appends at once

	in ledger.Count // of (uvarint length of the key, key, length and encoding) of each record
}

// What a feed collects at most before it appends it, if the store wants no less.
const (
	maxBatchBytes   = 256 << 10
	maxBatchRecords = 4096
)

func newSpool[T any](ctx context.Context, c config[T]) (*spool, error) {
	storeMemory := min(max(c.Memory*3/4, logstore.MinMemory), logstore.MaxMemory)
	s := &spool{store: c.Store, engine: spill.Engine{Memory: c.Memory / 8, Threads: c.Threads, Temp: c.temp}}
	if s.store == nil {
		dir, err := c.temp.Mkdir()
		if err != nil {
			return nil, errors.Join(err, c.temp.Close())
		}
		if s.own, err = logstore.Open(dir, &logstore.Options{Memory: storeMemory}); err != nil {
			return nil, errors.Join(err, c.temp.Close())
		}
		s.store = s.own
	} else if err := mustBeEmpty(ctx, s.store); err != nil {
		return nil, err
	}
	s.batch = min(maxBatchBytes, partd.BatchBytes(s.store)/2, int(c.Memory/128)) // others append, too
	return s, s.engine.Start(ctx, "grouping", 1)
}

func mustBeEmpty(ctx context.Context, store partd.Partd) error {
	for _, err := range partd.Keys(ctx, store) {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // what is there shows when the records are counted
		}
		if err != nil {
			return err
		}
		return errors.New("option Store: it already holds keys: drop them first, or take another")
	}
	return nil
}

// spoolFeed collects what one feed appends.
type spoolFeed struct {
	s       *spool
	buf     []byte
	entries []partd.Entry
	in      ledger.Count
}

func (s *spool) feed() (*spoolFeed, error) {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	if err := s.engine.OpenWriter(); err != nil {
		return nil, err
	}
	return &spoolFeed{s: s, buf: make([]byte, 0, s.batch), entries: make([]partd.Entry, 0, 256)}, nil
}

// add adds the encoding of a record under a key.
func (f *spoolFeed) add(key, record []byte) error {
	size := len(key) + len(record) + 2*binary.MaxVarintLen64
	if len(f.buf)+size > cap(f.buf) || len(f.entries) == maxBatchRecords {
		if err := f.flush(); err != nil {
			return err
		}
		if size > cap(f.buf) { // the entries refer to it, so it must not move
			f.buf = make([]byte, 0, size)
		}
	}
	start := len(f.buf)
	f.buf = binary.AppendUvarint(f.buf, uint64(len(key)))
	k := len(f.buf)
	f.buf = append(f.buf, key...)
	v := len(f.buf)
	f.buf = binary.AppendUvarint(f.buf, uint64(len(record)))
	f.buf = append(f.buf, record...)
	f.in.AddRecord(f.buf[start:])
	f.entries = append(f.entries, partd.Entry{
		Key:   unsafe.String(unsafe.SliceData(f.buf[k:v]), v-k),
		Value: f.buf[v:len(f.buf):len(f.buf)],
	})
	return nil
}

func (f *spoolFeed) flush() error {
	if len(f.entries) == 0 {
		return nil
	}
	for entries := range partd.Batches(f.entries, f.s.batch) {
		if err := f.s.store.Append(f.s.engine.Ctx, entries...); err != nil {
			return err
		}
	}
	clear(f.entries)
	f.buf, f.entries = f.buf[:0], f.entries[:0]
	if cap(f.buf) > f.s.batch {
		f.buf = make([]byte, 0, f.s.batch)
	}
	return nil
}

func (f *spoolFeed) close(failed bool) error {
	var err error
	if !failed {
		err = f.flush()
	}
	f.s.engine.Mu.Lock()
	defer f.s.engine.Mu.Unlock()
	f.s.engine.Writers--
	f.s.in.Add(f.in)
	f.buf, f.entries = nil, nil
	return err
}

// startReading ends the feeding. What is there can be read several times.
func (s *spool) startReading() error {
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	s.engine.Reading = false
	return s.engine.StartReading()
}

// close removes the store if it is a temporary one.
func (s *spool) close() error {
	err := s.engine.Close(func() error {
		if s.own == nil {
			return nil
		}
		return s.own.Close()
	})
	return errors.Join(err, s.engine.Temp.Close())
}

// keyed puts records into a store under keys.
type keyed[T, K any] struct {
	appendKey func(dst []byte, v T) ([]byte, error)
	codec     encode.ValueCodec[T]
	keys      encode.ValueCodec[K]
	spool     *spool
	groups    *atomic.Int64
	meter     *meter
}

func newKeyed[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (k keyed[T, K], err error) {
	if key == nil {
		return k, errors.New("grouping by no key: give a function")
	}
	keys, _, err := newCodec[K](true)
	if err != nil {
		return k, err
	}
	encode := func(dst []byte, v T) ([]byte, error) { return keys.Encode(dst, key(v)) }
	k = keyed[T, K]{appendKey: encode, keys: keys, groups: new(atomic.Int64)}
	c, err := o.resolve()
	if err != nil {
		return k, err
	}
	k.codec, k.meter = c.Codec, c.meter
	k.spool, err = newSpool(ctx, c)
	return k, err
}

// Feed returns a feed. Each takes an additional half MiB of memory.
func (k *keyed[T, K]) Feed() (*Feed[T], error) {
	f, err := orZero(k.spool).feed()
	if err != nil {
		return nil, err
	}
	feed := newFeed(k.meter.feeding(), k.appendKey, k.codec.Encode, f.add, nil)
	feed.finish = func() error { return f.close(feed.err != nil) }
	return feed, nil
}

// Stats returns statistics: the records of all closed feeds, and the output so far.
func (k *keyed[T, K]) Stats() Stats {
	s := orZero(k.spool)
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	return Stats{Records: s.in.Records, Groups: orZero(k.groups).Load()}
}

// Close ends everything and removes all temporary data. Do not call it while a
// feed or a loop over results is in use.
func (k *keyed[T, K]) Close() error { return orZero(k.spool).close() }

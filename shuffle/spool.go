package shuffle

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/logstore"
)

// spool puts records under keys into a store, and keeps account of them. What it
// appends is the length of a record's encoding as a uvarint, and the encoding.
type spool struct {
	ctx    context.Context
	stop   context.CancelCauseFunc
	store  partd.Partd
	own    *logstore.Store // where the store is a temporary one
	temp   *tempdir.Set
	memory int64 // for reading back

	batchBytes, batchRecords int // that a feed appends at once

	mu      sync.Mutex
	feeds   int
	reading bool
	in      ledger.Count // of (uvarint length of the key, key, length and encoding) of each record
}

// What a feed collects at most before it appends it. A log store notes entryCost
// bytes of each record, and makes a segment of its own of what is more than a
// 32nd of its memory, so feeds with little memory collect less.
const (
	maxBatchBytes   = 256 << 10
	maxBatchRecords = 4096
	entryCost       = 24
)

func newSpool[T any](ctx context.Context, c config[T]) (*spool, error) {
	storeMemory := min(max(c.Memory*3/4, logstore.MinMemory), logstore.MaxMemory)
	s := &spool{store: c.Store, temp: c.temp, memory: c.Memory / 8}
	s.batchBytes = int(min(maxBatchBytes, storeMemory/128))
	s.batchRecords = min(maxBatchRecords, s.batchBytes/entryCost)
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
	s.ctx, s.stop = context.WithCancelCause(ctx)
	return s, nil
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := context.Cause(s.ctx); err != nil {
		return nil, err
	}
	if s.reading {
		return nil, fmt.Errorf("a feed after reading began: %w", ErrClosed)
	}
	s.feeds++
	return &spoolFeed{s: s, buf: make([]byte, 0, s.batchBytes), entries: make([]partd.Entry, 0, 256)}, nil
}

// add adds the encoding of a record under a key.
func (f *spoolFeed) add(key, record []byte) error {
	size := len(key) + len(record) + 2*binary.MaxVarintLen64
	if len(f.buf)+size > cap(f.buf) || len(f.entries) == f.s.batchRecords {
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
	if err := f.s.store.Append(f.s.ctx, f.entries...); err != nil {
		return err
	}
	clear(f.entries)
	f.buf, f.entries = f.buf[:0], f.entries[:0]
	if cap(f.buf) > f.s.batchBytes {
		f.buf = make([]byte, 0, f.s.batchBytes)
	}
	return nil
}

func (f *spoolFeed) close(failed bool) error {
	var err error
	if !failed {
		err = f.flush()
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.feeds--
	f.s.in.Add(f.in)
	f.buf, f.entries = nil, nil
	return err
}

// startReading ends the feeding.
func (s *spool) startReading() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds > 0 {
		return fmt.Errorf("%d feeds are not closed yet", s.feeds)
	}
	s.reading = true
	return context.Cause(s.ctx)
}

// close removes the store if it is a temporary one.
func (s *spool) close() error {
	s.stop(ErrClosed)
	var err error
	if s.own != nil {
		err = s.own.Close()
	}
	return errors.Join(err, s.temp.Close())
}

package shuffle

import (
	"context"
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
)

// recordBlock holds consecutive complete records of a key, each preceded by its length.
type recordBlock struct {
	key, records []byte
	first, last  bool // whether the block contains the key's first or last record
}

// batch holds blocks for a reader. It contains copies of all data.
type batch struct {
	data   []byte
	blocks []blockOffsets
	// delivers the next batches with records of the last key; nil if all its records are in this batch
	continuation chan *batch
}

// blockOffsets describes a block by offsets into batch.data.
type blockOffsets struct {
	key, records, end int
	first, last       bool
}

const blockOffsetsSize = int(unsafe.Sizeof(blockOffsets{}))

func (b *batch) block(i int) recordBlock {
	p := b.blocks[i]
	return recordBlock{b.data[p.key:p.records:p.records], b.data[p.records:p.end:p.end], p.first, p.last}
}

// scanner reads a spool's store in the background. It divides chunks into records, counts
// them and sends them in batches to readers.
type scanner struct {
	s         *spool
	full      chan *batch
	empty     chan *batch
	cancel    context.CancelFunc
	ctx       context.Context
	batchSize int

	current *batch
	// channel for current if that batch begins within a group (the records of a key); otherwise nil
	continuation chan *batch
	items        items        // divides a value into records
	hashed       []byte       // the bytes to hash for a record: the key's length, the key and the record
	output       ledger.Count // counts and hashes the records that were read
	err          error        // valid after full is closed
}

// scan starts to read the store for the given number of readers. The first reader needs three
// batches (one being filled, one waiting, one being read), and each additional reader two.
func (s *spool) scan(readers int) *scanner {
	batches := 2*readers + 1
	sc := &scanner{s: s, full: make(chan *batch, batches), empty: make(chan *batch, batches), batchSize: int(min(s.engine.Memory/int64(2*batches), 1<<20))}
	for range batches {
		sc.empty <- new(batch)
	}
	sc.ctx, sc.cancel = context.WithCancel(s.engine.Ctx)
	go sc.run()
	return sc
}

// close stops reading and waits until the goroutine has ended.
func (sc *scanner) close() {
	sc.cancel()
	for range sc.full {
	}
}

func (sc *scanner) run() {
	defer close(sc.full)
	sc.err = sc.read()
	if sc.continuation != nil {
		close(sc.continuation)
	}
}

func (sc *scanner) read() error {
	for c, err := range partd.Scan(sc.ctx, sc.s.store) {
		if err != nil {
			return err
		}
		if err := sc.addChunk(c); err != nil {
			return err
		}
	}
	if err := sc.send(); err != nil {
		return err
	}
	if err := sc.s.input.Compare(sc.output); err != nil {
		return errorf("%w", err)
	}
	return nil
}

// addChunk adds the complete records of a chunk to the current batch, as a block.
func (sc *scanner) addChunk(c partd.Chunk) error {
	first := c.Offset == 0
	if first {
		sc.hashed = binary.AppendUvarint(sc.hashed[:0], uint64(len(c.Key)))
		sc.hashed = append(sc.hashed, c.Key...)
		sc.items.reset()
	}
	// Reserve no room for the beginning of a record in earlier chunks, because the record may end
	// much later.
	room := len(c.Key) + len(c.Data)
	b, err := sc.makeRoom(room)
	if err != nil {
		return err
	}
	p := blockOffsets{key: len(b.data), first: first, last: c.Last}
	b.data = append(slices.Grow(b.data, room), c.Key...)
	p.records = len(b.data)
	head := len(sc.hashed)
	err = sc.items.add(c.Key, c.Data, c.Last, func(record, _ []byte) error {
		sc.hashed = append(sc.hashed[:head], record...)
		sc.output.AddRecord(sc.hashed)
		b.data = append(b.data, record...)
		return nil
	})
	if err != nil {
		return err
	}
	sc.hashed = sc.hashed[:head]
	p.end = len(b.data)
	b.blocks = append(b.blocks, p)
	if c.Last && sc.continuation != nil {
		return sc.send() // so that any reader can receive the next group
	}
	return nil
}

// makeRoom returns a batch with room for a block of about n bytes. If the current batch has too
// little room, makeRoom sends it and makes another batch the current one.
func (sc *scanner) makeRoom(n int) (*batch, error) {
	if b := sc.current; b != nil {
		if len(b.data)+n+(len(b.blocks)+1)*blockOffsetsSize <= sc.batchSize {
			return b, nil
		}
		if err := sc.send(); err != nil {
			return nil, err
		}
	}
	b, err := canceled.Receive(sc.ctx, sc.empty)
	if err != nil {
		return nil, err
	}
	// Do not keep a buffer that grew for a long record or many blocks.
	if cap(b.data)+cap(b.blocks)*blockOffsetsSize > 2*sc.batchSize {
		b.data, b.blocks = nil, nil
	}
	b.data, b.blocks = b.data[:0], b.blocks[:0]
	sc.current = b
	return b, nil
}

// send sends the current batch. If the batch begins within a group, it goes to the reader of the
// group's beginning. Otherwise, any reader can receive it.
func (sc *scanner) send() error {
	if sc.current == nil {
		return nil
	}
	target := sc.full
	if sc.continuation != nil {
		target = sc.continuation
	}
	next := sc.continuation
	if sc.current.blocks[len(sc.current.blocks)-1].last {
		next = nil
	} else if next == nil {
		next = make(chan *batch, cap(sc.full)) // has room for all batches
	}
	sc.current.continuation = next
	if err := canceled.Send(sc.ctx, target, sc.current); err != nil {
		return err // run closes the old continuation, because a reader may be waiting for it
	}
	sc.current, sc.continuation = nil, next
	return nil
}

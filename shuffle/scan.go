package shuffle

import (
	"context"
	"encoding/binary"
	"unsafe"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/ledger"
)

// part holds consecutive whole records of a key, each as a length and an encoding.
type part struct {
	key, records []byte
	first, last  bool // whether it has the key's first and last records
}

// batch holds parts for a reader, with copies of all their data.
type batch struct {
	data  []byte
	parts []partOffsets
	more  chan *batch // delivers the batches that continue the last group; nil if this batch completes it
}

// partOffsets is a part whose slices are given as offsets into data.
type partOffsets struct {
	key, records, stop int
	first, last        bool
}

const partOffsetsSize = int(unsafe.Sizeof(partOffsets{}))

func (b *batch) part(i int) part {
	p := b.parts[i]
	return part{b.data[p.key:p.records:p.records], b.data[p.records:p.stop:p.stop], p.first, p.last}
}

// scanner reads a spool's store in the background. It cuts chunks into whole records and
// counts them.
type scanner struct {
	s      *spool
	full   chan *batch
	empty  chan *batch
	cancel context.CancelFunc
	ctx    context.Context
	size   int

	cur    *batch
	more   chan *batch // receives cur if cur begins within a group, else nil
	carry  []byte      // the beginning of an incomplete record
	hashed []byte      // length of the key, key, and a record
	out    ledger.Count
	err    error // valid after full is closed
}

// scan starts reading for a number of readers. The first reader needs three batches (one
// being filled, one waiting, one being read), and each other reader two more.
func (s *spool) scan(readers int) *scanner {
	batches := 2*readers + 1
	sc := &scanner{s: s, full: make(chan *batch, batches), empty: make(chan *batch, batches), size: int(min(s.engine.Memory/int64(2*batches), 1<<20))}
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
	if sc.more != nil {
		close(sc.more)
	}
}

func (sc *scanner) read() error {
	for c, err := range partd.Scan(sc.ctx, sc.s.store) {
		if err != nil {
			return err
		}
		if err := sc.chunk(c); err != nil {
			return err
		}
	}
	if err := sc.send(); err != nil {
		return err
	}
	return sc.s.in.Compare(sc.out)
}

// chunk processes a chunk.
func (sc *scanner) chunk(c partd.Chunk) error {
	first := c.Offset == 0
	if first {
		sc.hashed = binary.AppendUvarint(sc.hashed[:0], uint64(len(c.Key)))
		sc.hashed = append(sc.hashed, c.Key...)
		sc.carry = sc.carry[:0]
	}
	head := len(sc.hashed)
	defer func() { sc.hashed = sc.hashed[:head] }()
	data := c.Data
	if len(sc.carry) > 0 {
		sc.carry = append(sc.carry, data...)
		data = sc.carry
	}
	complete := 0
	for complete < len(data) {
		n, l := binary.Uvarint(data[complete:])
		if l < 0 || n > partd.MaxValueLen {
			return &partd.Error{Op: "read records", Key: c.Key, HasKey: true, Err: errEncoding}
		}
		if l == 0 || n > uint64(len(data)-complete-l) {
			break // the rest is in the next chunk
		}
		end := complete + l + int(n)
		sc.hashed = append(sc.hashed[:head], data[complete:end]...)
		sc.out.AddRecord(sc.hashed)
		complete = end
	}
	if c.Last && complete < len(data) {
		return &partd.Error{Op: "read records", Key: c.Key, HasKey: true, Err: errEncoding}
	}
	if err := sc.put(c.Key, data[:complete], first, c.Last); err != nil {
		return err
	}
	sc.carry = append(sc.carry[:0], data[complete:]...)
	return nil
}

func (sc *scanner) put(key string, records []byte, first, last bool) error {
	b := sc.cur
	if b != nil && len(b.data)+len(key)+len(records)+(len(b.parts)+1)*partOffsetsSize > sc.size {
		if err := sc.send(); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		var err error
		if b, err = canceled.Receive(sc.ctx, sc.empty); err != nil {
			return err
		}
		if cap(b.data)+cap(b.parts)*partOffsetsSize > 2*sc.size { // grown by a long record, or by many small parts
			b.data, b.parts = nil, nil
		}
		b.data, b.parts = b.data[:0], b.parts[:0]
		sc.cur = b
	}
	p := partOffsets{key: len(b.data), first: first, last: last}
	b.data = append(b.data, key...)
	p.records = len(b.data)
	b.data = append(b.data, records...)
	p.stop = len(b.data)
	b.parts = append(b.parts, p)
	if last && sc.more != nil {
		return sc.send() // the next group may go to any reader
	}
	return nil
}

// send sends the batch to any reader, or, if the batch begins within a group, to the
// reader that has the group's beginning.
func (sc *scanner) send() error {
	if sc.cur == nil {
		return nil
	}
	to := sc.full
	if sc.more != nil {
		to = sc.more
	}
	open := !sc.cur.parts[len(sc.cur.parts)-1].last
	if open && sc.more == nil {
		sc.more = make(chan *batch, cap(sc.full)) // has room for all batches
	} else if !open {
		sc.more = nil
	}
	sc.cur.more = sc.more
	err := canceled.Send(sc.ctx, to, sc.cur)
	if err == nil {
		sc.cur = nil
	}
	return err
}

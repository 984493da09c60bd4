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
	first, last  bool // whether these are the key's first, last records
}

// batch holds parts for a reader, with copies of all their data.
type batch struct {
	data  []byte
	parts []partAt
	more  chan *batch // delivers the batches that continue the last group; nil if that group is complete
}

// partAt is a part whose slices are given as offsets into data.
type partAt struct {
	key, records, end int
	first, last       bool
}

const partAtSize = int(unsafe.Sizeof(partAt{}))

func (b *batch) part(i int) part {
	p := b.parts[i]
	return part{b.data[p.key:p.records:p.records], b.data[p.records:p.end:p.end], p.first, p.last}
}

// scanner reads a spool's store in the background. It cuts chunks into whole records and
// counts them.
type scanner struct {
	s     *spool
	full  chan *batch
	empty chan *batch
	stop  context.CancelFunc
	ctx   context.Context
	size  int

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
	sc.ctx, sc.stop = context.WithCancel(s.engine.Ctx)
	go sc.run()
	return sc
}

// end stops the reading and waits for its end.
func (sc *scanner) end() {
	sc.stop()
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
	whole := 0
	for whole < len(data) {
		n, l := binary.Uvarint(data[whole:])
		if l < 0 || n > partd.MaxValueLen {
			return &partd.Error{Op: "read records", Key: c.Key, HasKey: true, Err: errEncoding}
		}
		if l == 0 || n > uint64(len(data)-whole-l) {
			break // the rest is in the next chunk
		}
		end := whole + l + int(n)
		sc.hashed = append(sc.hashed[:head], data[whole:end]...)
		sc.out.AddRecord(sc.hashed)
		whole = end
	}
	if c.Last && whole < len(data) {
		return &partd.Error{Op: "read records", Key: c.Key, HasKey: true, Err: errEncoding}
	}
	if err := sc.put(c.Key, data[:whole], first, c.Last); err != nil {
		return err
	}
	sc.carry = append(sc.carry[:0], data[whole:]...)
	return nil
}

func (sc *scanner) put(key string, records []byte, first, last bool) error {
	b := sc.cur
	if b != nil && len(b.data)+len(key)+len(records)+(len(b.parts)+1)*partAtSize > sc.size {
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
		if cap(b.data)+cap(b.parts)*partAtSize > 2*sc.size { // grown by a long record, or by parts that were smaller
			b.data, b.parts = nil, nil
		}
		b.data, b.parts = b.data[:0], b.parts[:0]
		sc.cur = b
	}
	p := partAt{key: len(b.data), first: first, last: last}
	b.data = append(b.data, key...)
	p.records = len(b.data)
	b.data = append(b.data, records...)
	p.end = len(b.data)
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

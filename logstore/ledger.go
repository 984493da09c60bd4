package logstore

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/segment"
)

// Sum128 is a sum modulo 2^128 of 128-bit hashes, which does not depend on their
// order. Its fields Hi and Lo are its halves; String gives it in hexadecimal.
type Sum128 = ledger.Sum128

// Ledger is the account of a set of pieces, that is of the values of appends
// and sets, whether a later Set or Delete took them back or not. It does not
// depend on their order, and ledgers of parts add up to the ledger of the whole.
type Ledger struct {
	Pieces int64  // how many
	Bytes  int64  // the sum of their lengths
	Sum    Sum128 // the sum of xxh3-128 of (uvarint length of the key, key, piece)
	// Marks are the resets of keys by Set and Delete, MarkSum the sum of
	// xxh3-128, seeded with the kind of entry, of (uvarint length of the key, key).
	Marks   int64
	MarkSum Sum128
}

// Add adds another account.
func (l *Ledger) Add(o Ledger) {
	l.Pieces += o.Pieces
	l.Bytes += o.Bytes
	l.Sum.Add(o.Sum)
	l.Marks += o.Marks
	l.MarkSum.Add(o.MarkSum)
}

// sub takes away the account of a part.
func (l *Ledger) sub(o Ledger) {
	l.Pieces -= o.Pieces
	l.Bytes -= o.Bytes
	l.Sum.Sub(o.Sum)
	l.Marks -= o.Marks
	l.MarkSum.Sub(o.MarkSum)
}

// diff describes how two ledgers differ.
func (l Ledger) diff(found Ledger) error {
	switch {
	case l.Pieces != found.Pieces:
		return fmt.Errorf("the ledger has %d pieces, %d were found", l.Pieces, found.Pieces)
	case l.Bytes != found.Bytes:
		return fmt.Errorf("the ledger has %d bytes, %d were found", l.Bytes, found.Bytes)
	case l.Sum != found.Sum:
		return fmt.Errorf("the ledger's sum over all pieces is %v, that of those found is %v", l.Sum, found.Sum)
	case l.Marks != found.Marks || l.MarkSum != found.MarkSum:
		return fmt.Errorf("the ledger has %d resets of keys with sum %v, found were %d with sum %v",
			l.Marks, l.MarkSum, found.Marks, found.MarkSum)
	}
	return nil
}

// addEntry accounts for an entry that is not a blob. hashed is the entry from
// the length of its key on.
func (l *Ledger) addEntry(kind segment.Kind, hashed []byte, valueLen int) {
	if kind == segment.KindAppend || valueLen > 0 {
		l.Pieces++
		l.Bytes += int64(valueLen)
		l.Sum.AddRecord(hashed)
	}
	if kind == segment.KindSet || kind == segment.KindDelete {
		l.Marks++
		l.MarkSum.Add(Sum128(xxh3.Hash128Seed(hashed[:len(hashed)-valueLen], uint64(kind))))
	}
}

// pieceHasher hashes a piece that comes in parts.
type pieceHasher struct {
	h xxh3.Hasher
	n int64
}

func (p *pieceHasher) start(key []byte) {
	p.h.Reset()
	p.n = 0
	var b [binary.MaxVarintLen64]byte
	_, _ = p.h.Write(b[:binary.PutUvarint(b[:], uint64(len(key)))])
	_, _ = p.h.Write(key)
}

func (p *pieceHasher) write(b []byte) {
	_, _ = p.h.Write(b)
	p.n += int64(len(b))
}

func (p *pieceHasher) addTo(l *Ledger) {
	l.Pieces++
	l.Bytes += p.n
	l.Sum.Add(Sum128(p.h.Sum128()))
}

const ledgerLen = 8 + 8 + 16 + 8 + 16

func (l *Ledger) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(l.Pieces))
	b = le.AppendUint64(b, uint64(l.Bytes))
	b = le.AppendUint64(b, l.Sum.Lo)
	b = le.AppendUint64(b, l.Sum.Hi)
	b = le.AppendUint64(b, uint64(l.Marks))
	b = le.AppendUint64(b, l.MarkSum.Lo)
	return le.AppendUint64(b, l.MarkSum.Hi)
}

// parse reads a ledger from the first ledgerLen bytes of b.
func (l *Ledger) parse(b []byte) {
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	*l = Ledger{
		Pieces: int64(u(0)), Bytes: int64(u(1)), Sum: Sum128{Lo: u(2), Hi: u(3)},
		Marks: int64(u(4)), MarkSum: Sum128{Lo: u(5), Hi: u(6)},
	}
}

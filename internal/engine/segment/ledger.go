package segment

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/base/ledger"
)

// Ledger is a checksum of a set of entries, in any order. Its pieces are the values of
// appends and sets, including values that a later Set or Delete discarded. The ledgers of
// disjoint sets add up to the ledger of their union.
type Ledger struct {
	Pieces int64         // number of pieces
	Bytes  int64         // total length of the pieces
	Sum    ledger.Sum128 // sum of the xxh3-128 hashes of (uvarint length of the key, key, piece)
	// Marks is the number of Sets and Deletes. MarkSum is the sum of their xxh3-128
	// hashes, seeded with the entry's kind, of (uvarint length of the key, key).
	Marks   int64
	MarkSum ledger.Sum128
}

// Add adds the entries of o.
func (l *Ledger) Add(o Ledger) {
	l.Pieces += o.Pieces
	l.Bytes += o.Bytes
	l.Sum.Add(o.Sum)
	l.Marks += o.Marks
	l.MarkSum.Add(o.MarkSum)
}

// Sub removes the entries of o, which must be in l.
func (l *Ledger) Sub(o Ledger) {
	l.Pieces -= o.Pieces
	l.Bytes -= o.Bytes
	l.Sum.Sub(o.Sum)
	l.Marks -= o.Marks
	l.MarkSum.Sub(o.MarkSum)
}

// Diff returns an error that describes how got differs from l, or nil if they are equal.
func (l Ledger) Diff(got Ledger) error {
	switch {
	case l.Pieces != got.Pieces:
		return fmt.Errorf("the ledger has %d pieces, but %d were found", l.Pieces, got.Pieces)
	case l.Bytes != got.Bytes:
		return fmt.Errorf("the ledger has %d bytes, but %d were found", l.Bytes, got.Bytes)
	case l.Sum != got.Sum:
		return fmt.Errorf("the ledger's checksum of all pieces is %v, but the pieces found have %v", l.Sum, got.Sum)
	case l.Marks != got.Marks || l.MarkSum != got.MarkSum:
		return fmt.Errorf("the ledger has %d sets and deletes with checksum %v, but %d with checksum %v were found",
			l.Marks, l.MarkSum, got.Marks, got.MarkSum)
	}
	return nil
}

// AddEntry adds an entry whose kind is not KindBlob. hashed is the part of the encoded entry that
// begins with the key's length.
func (l *Ledger) AddEntry(kind Kind, hashed []byte, valueLen int) {
	if kind == KindAppend || valueLen > 0 {
		l.Pieces++
		l.Bytes += int64(valueLen)
		l.Sum.AddRecord(hashed)
	}
	if kind == KindSet || kind == KindDelete {
		l.Marks++
		l.MarkSum.Add(ledger.Sum128(xxh3.Hash128Seed(hashed[:len(hashed)-valueLen], uint64(kind))))
	}
}

// AddPiece adds an append.
func (l *Ledger) AddPiece(p *ledger.Piece) {
	l.Pieces++
	l.Bytes += p.Bytes
	l.Sum.Add(p.Sum())
}

// Append appends the encoded ledger to b.
func (l *Ledger) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(l.Pieces))
	b = le.AppendUint64(b, uint64(l.Bytes))
	b = le.AppendUint64(b, l.Sum.Lo)
	b = le.AppendUint64(b, l.Sum.Hi)
	b = le.AppendUint64(b, uint64(l.Marks))
	b = le.AppendUint64(b, l.MarkSum.Lo)
	return le.AppendUint64(b, l.MarkSum.Hi)
}

// Parse decodes a ledger from the first LedgerLen bytes of b. It panics if b is shorter.
func (l *Ledger) Parse(b []byte) {
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	*l = Ledger{
		Pieces: int64(u(0)), Bytes: int64(u(1)), Sum: ledger.Sum128{Lo: u(2), Hi: u(3)},
		Marks: int64(u(4)), MarkSum: ledger.Sum128{Lo: u(5), Hi: u(6)},
	}
}

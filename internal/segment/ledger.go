package segment

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/ledger"
)

// Ledger is the account of a set of pieces, that is of the values of appends
// and sets, whether a later Set or Delete took them back or not. It does not
// depend on their order, and ledgers of parts add up to the ledger of the whole.
type Ledger struct {
	Pieces int64         // how many
	Bytes  int64         // the sum of their lengths
	Sum    ledger.Sum128 // the sum of xxh3-128 of (uvarint length of the key, key, piece)
	// Marks are the resets of keys by Set and Delete, MarkSum the sum of
	// xxh3-128, seeded with the kind of entry, of (uvarint length of the key, key).
	Marks   int64
	MarkSum ledger.Sum128
}

// Add adds another account.
func (l *Ledger) Add(o Ledger) {
	l.Pieces += o.Pieces
	l.Bytes += o.Bytes
	l.Sum.Add(o.Sum)
	l.Marks += o.Marks
	l.MarkSum.Add(o.MarkSum)
}

// Sub takes away the account of a part.
func (l *Ledger) Sub(o Ledger) {
	l.Pieces -= o.Pieces
	l.Bytes -= o.Bytes
	l.Sum.Sub(o.Sum)
	l.Marks -= o.Marks
	l.MarkSum.Sub(o.MarkSum)
}

// Diff describes how two ledgers differ.
func (l Ledger) Diff(found Ledger) error {
	switch {
	case l.Pieces != found.Pieces:
		return fmt.Errorf("the ledger has %d pieces, but %d were found", l.Pieces, found.Pieces)
	case l.Bytes != found.Bytes:
		return fmt.Errorf("the ledger has %d bytes, but %d were found", l.Bytes, found.Bytes)
	case l.Sum != found.Sum:
		return fmt.Errorf("the ledger's sum over all pieces is %v, that of those found is %v", l.Sum, found.Sum)
	case l.Marks != found.Marks || l.MarkSum != found.MarkSum:
		return fmt.Errorf("the ledger has %d resets of keys with sum %v, found were %d with sum %v",
			l.Marks, l.MarkSum, found.Marks, found.MarkSum)
	}
	return nil
}

// AddEntry accounts for an entry that is not a blob. hashed is the entry from
// the length of its key on.
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

// Append appends the ledger as footers and manifests have it.
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

// Parse reads a ledger from the first LedgerLen bytes of b. It panics if there are fewer, as
// package encoding/binary does.
func (l *Ledger) Parse(b []byte) {
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	*l = Ledger{
		Pieces: int64(u(0)), Bytes: int64(u(1)), Sum: ledger.Sum128{Lo: u(2), Hi: u(3)},
		Marks: int64(u(4)), MarkSum: ledger.Sum128{Lo: u(5), Hi: u(6)},
	}
}

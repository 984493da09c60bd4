package logstore

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/segment"
)

// Sum128 is a sum modulo 2^128 of 128-bit hashes, which does not depend on their
// order. Its fields Hi and Lo are its halves; String gives it in hexadecimal.
type Sum128 = ledger.Sum128

// Ledger accounts for a set of pieces, the values of appends and sets, including
// those that a later Set or Delete replaced or removed. It holds their number
// (Pieces), the sum of their lengths (Bytes), and the sum of xxh3-128 of (uvarint
// length of the key, key, piece) (Sum). Marks and MarkSum do the same for the resets
// of keys by Set and Delete. A ledger does not depend on the order of the pieces, and
// Add combines the ledgers of parts into the ledger of the whole.
type Ledger = segment.Ledger

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

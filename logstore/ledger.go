package logstore

import (
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Sum128 is a sum modulo 2^128 of 128-bit hashes.
type Sum128 = ledger.Sum128

// Ledger is the checksum of a set of pieces: the values of appends and sets, including values that
// a later Set or Delete discarded. Pieces is the number of pieces, and Bytes their total length.
// Sum is the sum of their xxh3-128 hashes; each hash covers the key's length as a uvarint, the key
// and the piece. Marks is the number of Sets and Deletes, and MarkSum the sum of their hashes. The
// order of the pieces does not matter. Add combines the ledgers of disjoint sets.
type Ledger = segment.Ledger

// Package ledger counts and sums sets of records to prove that a job's output consists of exactly
// the records of its input.
package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Sum128 is the sum modulo 2^128 of 128-bit hashes of records. The order of the records does not
// matter, and the sums of disjoint sets add up to the sum of their union.
type Sum128 struct{ Hi, Lo uint64 }

// Add adds another sum.
func (s *Sum128) Add(o Sum128) {
	var carry uint64
	s.Lo, carry = bits.Add64(s.Lo, o.Lo, 0)
	s.Hi, _ = bits.Add64(s.Hi, o.Hi, carry)
}

// Sub subtracts the sum of a subset of the records.
func (s *Sum128) Sub(o Sum128) {
	var borrow uint64
	s.Lo, borrow = bits.Sub64(s.Lo, o.Lo, 0)
	s.Hi, _ = bits.Sub64(s.Hi, o.Hi, borrow)
}

// AddRecord adds the xxh3-128 hash of a record.
func (s *Sum128) AddRecord(record []byte) { s.Add(Sum128(xxh3.Hash128(record))) }

func (s Sum128) String() string { return fmt.Sprintf("%016x%016x", s.Hi, s.Lo) }

// ErrNotVerified is wrapped by the error for an output that does not match its input.
var ErrNotVerified = errors.New("the output differs from the input")

// Count describes the input or the output of a job: the number of records, their bytes, and the
// sum of their hashes.
type Count struct {
	Records, Bytes int64
	Sum            Sum128
}

// Add adds another count.
func (c *Count) Add(o Count) {
	c.Records += o.Records
	c.Bytes += o.Bytes
	c.Sum.Add(o.Sum)
}

// AddRecord adds a record.
func (c *Count) AddRecord(record []byte) {
	c.Records++
	c.Bytes += int64(len(record))
	c.Sum.AddRecord(record)
}

// Compare compares c, the count of the input, with out, the count of the output. If they differ,
// the error wraps [ErrNotVerified].
func (c Count) Compare(out Count) error {
	switch {
	case c == out:
		return nil
	case c.Records != out.Records:
		return fmt.Errorf("%w: there were %d input records, but %d output records", ErrNotVerified, c.Records, out.Records)
	}
	return fmt.Errorf("%w: there were %d records, but input and output have %d and %d bytes, and the checksums %v and %v",
		ErrNotVerified, c.Records, c.Bytes, out.Bytes, c.Sum, out.Sum)
}

// Piece hashes a part of a key's value: the length of the key as a uvarint, the key, and the part.
type Piece struct {
	Bytes int64 // length of the part
	hash  xxh3.Hasher
}

// Start begins an empty part of a key's value.
func (p *Piece) Start(key string) {
	p.Bytes = 0
	p.hash.Reset()
	var length [binary.MaxVarintLen64]byte
	_, _ = p.hash.Write(binary.AppendUvarint(length[:0], uint64(len(key)))) // never returns an error
	_, _ = p.hash.WriteString(key)
}

// Add appends b to the part.
func (p *Piece) Add(b []byte) {
	_, _ = p.hash.Write(b) // never returns an error
	p.Bytes += int64(len(b))
}

// Sum returns the hash.
func (p *Piece) Sum() Sum128 { return Sum128(p.hash.Sum128()) }

// StoreCount describes the content of a store: the number of keys, the bytes of their values, and
// the sum modulo 2^128 of the hashes of all keys with their values (see [Piece]). The order of keys
// and the division of values into chunks do not matter.
type StoreCount struct {
	Keys, Bytes int64
	sum         Sum128
	current     Piece
}

// Add adds a chunk of a key's value. first and last report whether it is the value's first and last
// chunk. The chunks of a value must be added in order, without chunks of other keys in between.
func (l *StoreCount) Add(key string, data []byte, first, last bool) {
	if first {
		l.current.Start(key)
	}
	l.current.Add(data)
	l.Bytes += int64(len(data))
	if last {
		l.Keys++
		l.sum.Add(l.current.Sum())
	}
}

// Sum returns the sum of all keys.
func (l *StoreCount) Sum() Sum128 { return l.sum }

// Diff describes how got differs from l, or returns "" if they are equal.
func (l *StoreCount) Diff(got *StoreCount) string {
	switch {
	case l.Keys != got.Keys:
		return fmt.Sprintf("%d keys instead of %d", got.Keys, l.Keys)
	case l.Bytes != got.Bytes:
		return fmt.Sprintf("%d bytes instead of %d", got.Bytes, l.Bytes)
	case l.sum != got.sum:
		return fmt.Sprintf("the same number of keys and bytes, but the checksum %s instead of %s", got.sum, l.sum)
	}
	return ""
}

package extsort

import (
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Sum128 is a sum modulo 2^128 of 128-bit hashes: of a set of records it does
// not depend on their order, and sums of parts add up to that of the whole.
type Sum128 struct{ Hi, Lo uint64 }

// Add adds another sum.
func (s *Sum128) Add(o Sum128) {
	var carry uint64
	s.Lo, carry = bits.Add64(s.Lo, o.Lo, 0)
	s.Hi, _ = bits.Add64(s.Hi, o.Hi, carry)
}

// AddRecord adds the hash of a record.
func (s *Sum128) AddRecord(record []byte) {
	h := xxh3.Hash128(record)
	s.Add(Sum128{h.Hi, h.Lo})
}

func (s Sum128) String() string { return fmt.Sprintf("%016x%016x", s.Hi, s.Lo) }

// count is what is compared between what went in and what came out.
type count struct {
	records, bytes int64
	sum            Sum128
}

func (c *count) add(o count) {
	c.records += o.records
	c.bytes += o.bytes
	c.sum.Add(o.sum)
}

func (c count) compare(out count) error {
	switch {
	case c == out:
		return nil
	case c.records != out.records:
		return fmt.Errorf("%w: %d went in, %d came out", ErrNotVerified, c.records, out.records)
	}
	return fmt.Errorf("%w: %d went in and came out, but their %d and %d bytes have the sums %v and %v",
		ErrNotVerified, c.records, c.bytes, out.bytes, c.sum, out.sum)
}

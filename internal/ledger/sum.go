// Package ledger counts and sums sets of records, to prove that what comes out of a job is
// what went in.
package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Sum128 is a sum modulo 2^128 of 128-bit hashes of records. It does not depend on their
// order, and the sums of parts add up to the sum of the whole.
type Sum128 struct{ Hi, Lo uint64 }

// Add adds another sum.
func (s *Sum128) Add(o Sum128) {
	var carry uint64
	s.Lo, carry = bits.Add64(s.Lo, o.Lo, 0)
	s.Hi, _ = bits.Add64(s.Hi, o.Hi, carry)
}

// Sub subtracts the sum of a part.
func (s *Sum128) Sub(o Sum128) {
	var borrow uint64
	s.Lo, borrow = bits.Sub64(s.Lo, o.Lo, 0)
	s.Hi, _ = bits.Sub64(s.Hi, o.Hi, borrow)
}

// AddRecord adds the xxh3-128 of a record.
func (s *Sum128) AddRecord(record []byte) { s.Add(Sum128(xxh3.Hash128(record))) }

func (s Sum128) String() string { return fmt.Sprintf("%016x%016x", s.Hi, s.Lo) }

// ErrNotVerified is wrapped by the error for an output that differs from its input.
var ErrNotVerified = errors.New("the output differs from the input")

// Count is the count and the sum of the records that went into an engine or came out of it.
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

// Compare returns an error that wraps [ErrNotVerified] if out differs from c, the count of
// the input.
func (c Count) Compare(out Count) error {
	switch {
	case c == out:
		return nil
	case c.Records != out.Records:
		return fmt.Errorf("%w: %d records went in, %d came out", ErrNotVerified, c.Records, out.Records)
	}
	return fmt.Errorf("%w: %d records went in and came out, but their %d and %d bytes have the sums %v and %v",
		ErrNotVerified, c.Records, c.Bytes, out.Bytes, c.Sum, out.Sum)
}

// StoreCount compares stores. It has the number of keys, the bytes of their values, and the
// sum modulo 2^128 of xxh3-128 of (length of the key as a uvarint, key, value). It depends
// neither on the order of keys nor on how values are split into chunks.
type StoreCount struct {
	Keys, Bytes int64
	sum         Sum128
	hash        *xxh3.Hasher // of the current key
}

// Add adds a chunk of a key's value. The chunks of a value must come one after the other.
func (l *StoreCount) Add(key string, data []byte, first, last bool) {
	if l.hash == nil {
		l.hash = xxh3.New()
	}
	if first {
		l.hash.Reset()
		var length [binary.MaxVarintLen64]byte
		_, _ = l.hash.Write(binary.AppendUvarint(length[:0], uint64(len(key)))) // a hasher never fails
		_, _ = l.hash.WriteString(key)
	}
	_, _ = l.hash.Write(data)
	l.Bytes += int64(len(data))
	if !last {
		return
	}
	l.Keys++
	l.sum.Add(Sum128(l.hash.Sum128()))
}

// Checksum returns the sum in hexadecimal.
func (l *StoreCount) Checksum() string { return l.sum.String() }

// Diff describes how found differs from l, or returns "" if they are equal.
func (l *StoreCount) Diff(got *StoreCount) string {
	switch {
	case l.Keys != got.Keys:
		return fmt.Sprintf("%d keys instead of %d", got.Keys, l.Keys)
	case l.Bytes != got.Bytes:
		return fmt.Sprintf("%d bytes instead of %d", got.Bytes, l.Bytes)
	case l.sum != got.sum:
		return fmt.Sprintf("the same number of keys and bytes, but the checksum %s instead of %s", got.Checksum(), l.Checksum())
	}
	return ""
}

// Package ledger keeps account of sets of records, to compare what went in
// somewhere with what comes out.
package ledger

import (
	"encoding/binary"
	"errors"
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

// Sub takes the sum of a part away.
func (s *Sum128) Sub(o Sum128) {
	var borrow uint64
	s.Lo, borrow = bits.Sub64(s.Lo, o.Lo, 0)
	s.Hi, _ = bits.Sub64(s.Hi, o.Hi, borrow)
}

// AddRecord adds the xxh3-128 of a record.
func (s *Sum128) AddRecord(record []byte) { s.Add(Sum128(xxh3.Hash128(record))) }

func (s Sum128) String() string { return fmt.Sprintf("%016x%016x", s.Hi, s.Lo) }

// ErrNotVerified is wrapped by the error where what came out is not what went in.
var ErrNotVerified = errors.New("what came out is not what went in")

// Count is the account of the records that went into an engine, or came out.
type Count struct {
	Records, Bytes int64
	Sum            Sum128
}

// Add adds another account.
func (c *Count) Add(o Count) {
	c.Records += o.Records
	c.Bytes += o.Bytes
	c.Sum.Add(o.Sum)
}

// AddRecord accounts for a record.
func (c *Count) AddRecord(record []byte) {
	c.Records++
	c.Bytes += int64(len(record))
	c.Sum.AddRecord(record)
}

// Compare returns an error that wraps [ErrNotVerified] if what came out is not
// what c counted.
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

// Stores compares stores. It is the account of keys with their whole values: how
// many, their bytes, and the sum modulo 2^128 of xxh3-128 of (length of the key as
// a uvarint, key, value). It depends neither on the order of keys nor on how values
// are cut into chunks and pieces.
type Stores struct {
	Keys, Bytes int64
	sum         Sum128
	hash        *xxh3.Hasher // of the key whose chunks arrive
}

// Add adds a chunk of the value of a key, whose chunks come one after the other.
func (l *Stores) Add(key string, data []byte, first, last bool) {
	if l.hash == nil {
		l.hash = xxh3.New()
	}
	if first {
		l.hash.Reset()
		var length [binary.MaxVarintLen64]byte
		_, _ = l.hash.Write(binary.AppendUvarint(length[:0], uint64(len(key)))) // a hasher takes all
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

// Checksum is the sum in hexadecimal.
func (l *Stores) Checksum() string { return l.sum.String() }

// Diff says how what another ledger found differs, or nothing.
func (l *Stores) Diff(found *Stores) string {
	switch {
	case l.Keys != found.Keys:
		return fmt.Sprintf("%d keys instead of %d", found.Keys, l.Keys)
	case l.Bytes != found.Bytes:
		return fmt.Sprintf("%d bytes instead of %d", found.Bytes, l.Bytes)
	case l.sum != found.sum:
		return fmt.Sprintf("as many keys and bytes, but other ones: their checksum is %s instead of %s", found.Checksum(), l.Checksum())
	}
	return ""
}

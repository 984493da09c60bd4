package ledger

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

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

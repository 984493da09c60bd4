package cli

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
)

// ledger is the account of keys with their whole values: how many, their bytes,
// and the sum modulo 2^128 of xxh3-128 of (length of the key as a uvarint, key,
// value). It does not depend on the order of keys, nor on how values are cut into
// chunks and pieces.
type ledger struct {
	keys, bytes int64
	sum         xxh3.Uint128
	hash        *xxh3.Hasher // of the key whose chunks arrive
}

// add adds a chunk of a Scan. A key's chunks come one after the other.
func (l *ledger) add(c partd.Chunk) {
	if l.hash == nil {
		l.hash = xxh3.New()
	}
	if c.Offset == 0 {
		l.hash.Reset()
		var length [binary.MaxVarintLen64]byte
		_, _ = l.hash.Write(binary.AppendUvarint(length[:0], uint64(len(c.Key)))) // a hasher takes all
		_, _ = l.hash.WriteString(c.Key)
	}
	_, _ = l.hash.Write(c.Data)
	l.bytes += int64(len(c.Data))
	if !c.Last {
		return
	}
	l.keys++
	sum := l.hash.Sum128()
	var carry uint64
	l.sum.Lo, carry = bits.Add64(l.sum.Lo, sum.Lo, 0)
	l.sum.Hi, _ = bits.Add64(l.sum.Hi, sum.Hi, carry)
}

// checksum is the sum in hexadecimal.
func (l *ledger) checksum() string { return fmt.Sprintf("%016x%016x", l.sum.Hi, l.sum.Lo) }

// diff says how what another ledger found differs, or nothing.
func (l *ledger) diff(found *ledger) string {
	switch {
	case l.keys != found.keys:
		return fmt.Sprintf("%d keys instead of %d", found.keys, l.keys)
	case l.bytes != found.bytes:
		return fmt.Sprintf("%d bytes instead of %d", found.bytes, l.bytes)
	case l.sum != found.sum:
		return fmt.Sprintf("as many keys and bytes, but other ones: their checksum is %s instead of %s", found.checksum(), l.checksum())
	}
	return ""
}

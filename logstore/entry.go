package logstore

import (
	"encoding/binary"
	"errors"

	"github.com/go-partd/partd"
)

// entryKind is what an entry does to the value of its key.
type entryKind uint8

const (
	kindAppend entryKind = iota // append the piece
	kindSet                     // replace all before by the piece
	kindDelete                  // remove the key
	kindBlob                    // append the piece that a blobRef stands for
)

// maxInline is the length of the longest value that an entry holds itself.
const maxInline = 64<<10 - 1

// maxEntryLen bounds the length of an encoded entry.
const maxEntryLen = 2*binary.MaxVarintLen32 + partd.MaxKeyLen + maxInline

// entry is a decoded entry. Its slices are parts of what it was decoded from.
type entry struct {
	kind  entryKind
	key   []byte
	value []byte // of kindBlob, the encoded blobRef
	raw   []byte // the whole encoding
	head  int    // hashed for the ledger is raw[head:]
}

var (
	errShortEntry = errors.New("an entry is cut off")
	errBadEntry   = errors.New("an entry's lengths are impossible")
)

// appendEntryHead appends an entry's encoding up to its value:
//
//	uvarint(length of the value << 2 | kind) uvarint(length of the key) key
func appendEntryHead(b []byte, kind entryKind, key string, valueLen int) []byte {
	b = binary.AppendUvarint(b, uint64(valueLen)<<2|uint64(kind))
	b = binary.AppendUvarint(b, uint64(len(key)))
	return append(b, key...)
}

// parseEntry decodes the entry at the start of b. It returns errShortEntry if
// more bytes could complete it.
func parseEntry(b []byte) (e entry, err error) {
	v, n := binary.Uvarint(b)
	k, m := uint64(0), 0
	if n > 0 {
		k, m = binary.Uvarint(b[n:])
	}
	if n <= 0 || m <= 0 {
		if n < 0 || m < 0 || len(b) >= 2*binary.MaxVarintLen64 {
			return e, errBadEntry
		}
		return e, errShortEntry
	}
	kind, valueLen := entryKind(v&3), v>>2
	if k > partd.MaxKeyLen || valueLen > maxInline ||
		kind == kindDelete && valueLen != 0 || kind == kindBlob && valueLen != blobRefLen {
		return e, errBadEntry
	}
	end := n + m + int(k) + int(valueLen)
	if end > len(b) {
		return e, errShortEntry
	}
	keyAt := n + m
	valueAt := keyAt + int(k)
	return entry{kind: kind, key: b[keyAt:valueAt], value: b[valueAt:end], raw: b[:end], head: n}, nil
}

// parseShort decodes an entry as parseEntry does, if it is an append or a set,
// lies in b whole, and has the short lengths that most have.
func parseShort(b []byte) (e entry, ok bool) {
	if len(b) < 4 {
		return e, false
	}
	v, n := uint(b[0]), 1
	if v >= 0x80 {
		if b[1] >= 0x80 {
			return e, false
		}
		v, n = v&0x7f|uint(b[1])<<7, 2
	}
	k := uint(b[n])
	valueAt := uint(n) + 1 + k
	end := valueAt + v>>2
	if k >= 0x80 || v&3 > uint(kindSet) || end > uint(len(b)) {
		return e, false
	}
	return entry{kind: entryKind(v & 3), key: b[n+1 : valueAt], value: b[valueAt:end], raw: b[:end], head: n}, true
}

// valueLen returns the length of the piece that the entry stands for.
func (e *entry) valueLen() (int64, error) {
	if e.kind != kindBlob {
		return int64(len(e.value)), nil
	}
	r, err := parseBlobRef(e.value)
	return r.length, err
}

package segment

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/go-partd/partd"
)

// Kind is what an entry does to the value of its key.
type Kind uint8

const (
	KindAppend Kind = iota // append the piece
	KindSet                // replace all before by the piece
	KindDelete             // remove the key
	KindBlob               // append the piece that a blobRef stands for
)

// MaxInline is the length of the longest value that an entry holds itself.
const MaxInline = 64<<10 - 1

// maxEntryLen bounds the length of an encoded entry.
const maxEntryLen = 2*binary.MaxVarintLen32 + partd.MaxKeyLen + MaxInline

// Entry is a decoded entry. Its slices are parts of what it was decoded from.
type Entry struct {
	Kind  Kind
	Key   []byte
	Value []byte // of kindBlob, the encoded blobRef
	Raw   []byte // the whole encoding
	Head  int    // hashed for the ledger is raw[head:]
}

var (
	ErrShortEntry = errors.New("an entry is cut off")
	ErrBadEntry   = errors.New("an entry's lengths are impossible")
)

// AppendEntryHead appends an entry's encoding up to its value:
//
//	uvarint(length of the value << 2 | kind) uvarint(length of the key) key
func AppendEntryHead(b []byte, kind Kind, key string, valueLen int) []byte {
	b = binary.AppendUvarint(b, uint64(valueLen)<<2|uint64(kind))
	b = binary.AppendUvarint(b, uint64(len(key)))
	return append(b, key...)
}

// ParseEntry decodes the entry at the start of b. It returns ErrShortEntry if
// more bytes could complete it.
func ParseEntry(b []byte) (e Entry, err error) {
	v, n := binary.Uvarint(b)
	k, m := uint64(0), 0
	if n > 0 {
		k, m = binary.Uvarint(b[n:])
	}
	if n <= 0 || m <= 0 {
		if n < 0 || m < 0 || len(b) >= 2*binary.MaxVarintLen64 {
			return e, ErrBadEntry
		}
		return e, ErrShortEntry
	}
	kind, valueLen := Kind(v&3), v>>2
	if k > partd.MaxKeyLen || valueLen > MaxInline ||
		kind == KindDelete && valueLen != 0 || kind == KindBlob && valueLen != BlobRefLen {
		return e, ErrBadEntry
	}
	end := n + m + int(k) + int(valueLen)
	if end > len(b) {
		return e, ErrShortEntry
	}
	keyAt := n + m
	valueAt := keyAt + int(k)
	return Entry{Kind: kind, Key: b[keyAt:valueAt], Value: b[valueAt:end], Raw: b[:end], Head: n}, nil
}

// ParseShort finds what the entry at an offset of b consists of, if it is an append
// or a set, lies in b whole, and has the short lengths that most have.
func ParseShort(b []byte, at int) (kind Kind, keyAt, valueAt, end int, ok bool) {
	if at+4 > len(b) {
		return 0, 0, 0, 0, false
	}
	head := binary.LittleEndian.Uint32(b[at:])
	v, k, n := int(head&0x7f), int(head>>8&0xff), 2
	if head&0x80 != 0 {
		v, k, n = v|int(head>>8&0xff)<<7, int(head>>16&0xff), 3 // wrong, and too much, with a third byte
	}
	keyAt = at + n
	valueAt = keyAt + k
	end = valueAt + v>>2
	ok = head&0x8080 != 0x8080 && k < 0x80 && v&3 <= int(KindSet) && end <= len(b)
	return Kind(v & 3), keyAt, valueAt, end, ok
}

// ValueLen returns the length of the piece that the entry stands for.
func (e *Entry) ValueLen() (int64, error) {
	if e.Kind != KindBlob {
		return int64(len(e.Value)), nil
	}
	r, err := ParseBlobRef(e.Value)
	return r.Length, err
}

// Source yields the bytes of a stream of entries in pieces, each valid
// until the next. It ends with io.EOF.
type Source interface {
	Next() ([]byte, error)
}

// EachBlock calls use for each piece of a source, which is valid during the call.
func EachBlock(src Source, use func(b []byte) error) error {
	for {
		b, err := src.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = use(b)
		}
		if err != nil {
			return err
		}
	}
}

// EntryReader reads the entries of a Source. An entry may be spread over
// several blocks.
type EntryReader struct {
	Src   Source
	buf   []byte // what is left of the current block
	carry []byte // an entry that does not lie in one block, and what follows it
	tmp   []byte
}

// Next returns the next entry, valid until the next call, and io.EOF at the end.
func (r *EntryReader) Next() (Entry, error) {
	for {
		e, err := ParseEntry(r.buf)
		if err == nil {
			r.buf = r.buf[len(e.Raw):]
			return e, nil
		}
		if !errors.Is(err, ErrShortEntry) || len(r.buf) > maxEntryLen {
			return e, ErrBadEntry
		}
		rest := len(r.buf)
		// What is left must be saved before the source uses its memory again.
		// buf may be a part of carry, so the two take turns.
		r.tmp = append(r.tmp[:0], r.buf...)
		block, err := r.Src.Next()
		if err == io.EOF {
			if rest > 0 {
				return e, ErrShortEntry
			}
			return e, io.EOF
		}
		if err != nil {
			return e, err
		}
		if rest == 0 {
			r.buf = block
			continue
		}
		r.tmp = append(r.tmp, block...)
		r.tmp, r.carry = r.carry, r.tmp
		r.buf = r.carry
	}
}

// Slices is a Source of slices that lie in memory.
type Slices struct{ Blocks [][]byte }

func (s *Slices) Next() ([]byte, error) {
	if len(s.Blocks) == 0 {
		return nil, io.EOF
	}
	b := s.Blocks[0]
	s.Blocks = s.Blocks[1:]
	return b, nil
}

func (r *EntryReader) Reset(src Source) { r.Src, r.buf = src, nil }

// Each calls f for each entry of another source, which is valid during the call.
func (r *EntryReader) Each(src Source, f func(e *Entry) error) error {
	r.Reset(src)
	var e Entry // outside of the loop, since f lets it escape
	for {
		var err error
		if e, err = r.Next(); err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(&e)
		}
		if err != nil {
			return err
		}
	}
}

// EachEntry calls f for each entry of a source, which is valid during the call.
func EachEntry(src Source, f func(e *Entry) error) error {
	var r EntryReader
	return r.Each(src, f)
}

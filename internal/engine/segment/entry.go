package segment

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/go-partd/partd"
)

// Kind is the operation that an entry records.
type Kind uint8

const (
	KindAppend Kind = iota // append the entry's value
	KindSet                // replace the key's value
	KindDelete             // remove the key
	KindBlob               // append the value, which is stored in a blob file
)

// MaxInline is the maximum length of a value in an entry. Longer values are in blob files.
const MaxInline = 64<<10 - 1

const maxEntryLen = 2*binary.MaxVarintLen32 + partd.MaxKeyLen + MaxInline

// Entry is a decoded entry. Its slices share memory with the encoded entry.
type Entry struct {
	Kind      Kind
	Key       []byte
	Value     []byte // for KindBlob, the encoded BlobRef
	Raw       []byte // the encoded entry
	HashStart int    // offset in Raw where the key's length starts; a Ledger hashes Raw from this offset on
}

var (
	ErrShortEntry = errors.New("an entry is truncated")
	ErrBadEntry   = errors.New("an entry has invalid lengths")
)

// AppendEntryHead appends an entry's encoding up to its value:
//
//	uvarint(length of the value << 2 | kind) uvarint(length of the key) key
func AppendEntryHead(b []byte, kind Kind, key string, valueLen int) []byte {
	b = binary.AppendUvarint(b, uint64(valueLen)<<2|uint64(kind))
	b = binary.AppendUvarint(b, uint64(len(key)))
	return append(b, key...)
}

// ParseEntry decodes the entry at the start of b. If b ends within the entry, it returns
// ErrShortEntry.
func ParseEntry(b []byte) (e Entry, err error) {
	valueHead, keyLenAt := binary.Uvarint(b)
	keyLen, keyLenSize := uint64(0), 0
	if keyLenAt > 0 {
		keyLen, keyLenSize = binary.Uvarint(b[keyLenAt:])
	}
	if keyLenAt <= 0 || keyLenSize <= 0 {
		if keyLenAt < 0 || keyLenSize < 0 || len(b) >= 2*binary.MaxVarintLen64 {
			return e, ErrBadEntry
		}
		return e, ErrShortEntry
	}
	kind, valueLen := Kind(valueHead&3), valueHead>>2
	if keyLen > partd.MaxKeyLen || valueLen > MaxInline ||
		kind == KindDelete && valueLen != 0 || kind == KindBlob && valueLen != BlobRefLen {
		return e, ErrBadEntry
	}
	keyStart := keyLenAt + keyLenSize
	valueStart := keyStart + int(keyLen)
	end := valueStart + int(valueLen)
	if end > len(b) {
		return e, ErrShortEntry
	}
	return Entry{Kind: kind, Key: b[keyStart:valueStart], Value: b[valueStart:end], Raw: b[:end], HashStart: keyLenAt}, nil
}

// ParseShort is a fast alternative to ParseEntry for the entry at offset off, if it is an
// append or a set with a short key and a short value. It returns the offsets in b of the
// key, the value, and the end of the entry. If ok is false, use ParseEntry.
func ParseShort(b []byte, off int) (kind Kind, keyStart, valueStart, end int, ok bool) {
	if off+4 > len(b) {
		return 0, 0, 0, 0, false
	}
	head := binary.LittleEndian.Uint32(b[off:])
	valueHead, keyLen, lengthsSize := int(head&0x7f), int(head>>8&0xff), 2
	if head&0x80 != 0 {
		// Two bytes encode valueHead. If there are more, ok is false.
		valueHead, keyLen, lengthsSize = valueHead|int(head>>8&0xff)<<7, int(head>>16&0xff), 3
	}
	keyStart = off + lengthsSize
	valueStart = keyStart + keyLen
	end = valueStart + valueHead>>2
	ok = head&0x8080 != 0x8080 && keyLen < 0x80 && valueHead&3 <= int(KindSet) && end <= len(b)
	return Kind(valueHead & 3), keyStart, valueStart, end, ok
}

// ValueLen returns the length of the value, even if the value is in a blob file.
func (e *Entry) ValueLen() (int64, error) {
	if e.Kind != KindBlob {
		return int64(len(e.Value)), nil
	}
	r, err := ParseBlobRef(e.Value)
	return r.Length, err
}

// Source yields encoded entries in blocks. An entry can span several blocks. Next returns io.EOF at
// the end. A block is valid until the next call.
type Source interface {
	Next() ([]byte, error)
}

// EachBlock calls handle for each block of src. The block is valid only during the call.
func EachBlock(src Source, handle func(b []byte) error) error {
	for {
		b, err := src.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = handle(b)
		}
		if err != nil {
			return err
		}
	}
}

// EntryReader reads the entries of a Source.
type EntryReader struct {
	Src   Source
	buf   []byte // unread bytes
	carry []byte // memory for buf if an entry spans blocks
	next  []byte // memory for the next carry
}

// Next returns the next entry, or io.EOF at the end. The entry is valid until the next call.
func (r *EntryReader) Next() (Entry, error) {
	if kind, keyStart, valueStart, end, ok := ParseShort(r.buf, 0); ok {
		b := r.buf[:end]
		r.buf = r.buf[end:]
		return Entry{Kind: kind, Key: b[keyStart:valueStart], Value: b[valueStart:], Raw: b, HashStart: keyStart - 1}, nil
	}
	for {
		e, err := ParseEntry(r.buf)
		if err == nil {
			r.buf = r.buf[len(e.Raw):]
			return e, nil
		}
		if !errors.Is(err, ErrShortEntry) || len(r.buf) > maxEntryLen {
			return e, ErrBadEntry
		}
		restLen := len(r.buf)
		// Save the unread bytes, because Src.Next may overwrite them. Use next, because buf may
		// share memory with carry.
		r.next = append(r.next[:0], r.buf...)
		block, err := r.Src.Next()
		if err == io.EOF {
			if restLen > 0 {
				return e, ErrShortEntry
			}
			return e, io.EOF
		}
		if err != nil {
			return e, err
		}
		if restLen == 0 {
			r.buf = block
			continue
		}
		r.next = append(r.next, block...)
		r.next, r.carry = r.carry, r.next
		r.buf = r.carry
	}
}

// BlockList is a Source of blocks in memory.
type BlockList struct{ Blocks [][]byte }

func (s *BlockList) Next() ([]byte, error) {
	if len(s.Blocks) == 0 {
		return nil, io.EOF
	}
	b := s.Blocks[0]
	s.Blocks = s.Blocks[1:]
	return b, nil
}

func (r *EntryReader) Reset(src Source) { r.Src, r.buf = src, nil }

// Each calls f for each entry of src. The entry is valid only during the call.
func (r *EntryReader) Each(src Source, f func(e *Entry) error) error {
	r.Reset(src)
	var e Entry // outside the loop, because each declaration allocates
	for {
		var err error
		e, err = r.Next()
		if err == io.EOF {
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

// EachEntry calls f for each entry of src. The entry is valid only during the call.
func EachEntry(src Source, f func(e *Entry) error) error {
	var r EntryReader
	return r.Each(src, f)
}

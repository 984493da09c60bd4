package extsort

import (
	"encoding/binary"

	"github.com/go-partd/partd/internal/ledger"
)

// Block is a sequence of sorted records.
type Block struct {
	// Data is all records of the block without anything between them; with
	// KeepKeys there is, before each record, the length of its key as a uvarint
	// and the key.
	Data []byte
	ends []uint64 // of each in Data, twice, plus one if its key is that of the record before
	keys bool
}

const maxBlockRecords = 1 << 16

// Len returns the number of records.
func (b *Block) Len() int { return len(b.ends) }

// Record returns a record.
func (b *Block) Record(i int) []byte {
	item := b.item(i)
	if b.keys {
		n, l := uvarint(item)
		return item[l+n:]
	}
	return item
}

// Key returns the key of a record, if KeepKeys is set.
func (b *Block) Key(i int) []byte {
	if !b.keys {
		return nil
	}
	item := b.item(i)
	n, l := uvarint(item)
	return item[l : l+n]
}

// SameKey reports whether a record has the key of the record before it, be that
// in the block before. It is false for the first of all.
func (b *Block) SameKey(i int) bool { return b.ends[i]&1 != 0 }

func (b *Block) item(i int) []byte {
	from := uint64(0)
	if i > 0 {
		from = b.ends[i-1] >> 1
	}
	to := b.ends[i] >> 1
	return b.Data[from:to:to]
}

// full reports whether a record with its key has no room.
func (b *Block) full(bytes int) bool {
	return len(b.ends) == maxBlockRecords || len(b.ends) > 0 && len(b.Data)+bytes > cap(b.Data)
}

// add adds a record. One alone may be longer than the block's usual size.
func (b *Block) add(h *head, same bool) {
	if b.keys {
		b.Data = binary.AppendUvarint(b.Data, uint64(len(h.key)))
		b.Data = append(b.Data, h.key...)
	}
	b.Data = append(b.Data, h.rec...)
	end := uint64(len(b.Data)) << 1
	if same {
		end |= 1
	}
	b.ends = append(b.ends, end)
}

// Take copies records of another block to the end of this one.
func (b *Block) Take(from *Block, first, end int) {
	b.keys = from.keys
	for i := first; i < end; i++ {
		b.Data = append(b.Data, from.item(i)...)
		b.ends = append(b.ends, uint64(len(b.Data))<<1|from.ends[i]&1)
	}
}

// Reset forgets all records.
func (b *Block) Reset() { b.Data, b.ends = b.Data[:0], b.ends[:0] }

// count counts the records.
func (b *Block) count() ledger.Count {
	c := ledger.Count{Records: int64(len(b.ends))}
	for i := range b.ends {
		item := b.item(i)
		c.Sum.AddRecord(item)
		c.Bytes += int64(len(item))
		if b.keys {
			n, l := uvarint(item)
			c.Bytes -= int64(l + n)
		}
	}
	return c
}

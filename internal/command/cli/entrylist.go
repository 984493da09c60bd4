package cli

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
)

// entryList converts records to entries of a store.
type entryList struct {
	entries []partd.Entry
	arena   []byte   // holds keys that are not slices of the input
	numbers []string // keys of the partitions

	computesSum bool // whether fill computes sum
	sum         ledger.Sum128
	hashed      []byte
}

// fill converts each record in a block to an entry. The entries are valid as long as the block. If
// partitions is not 0, the keys are partition numbers.
func (l *entryList) fill(b *records.Block, partitions int) {
	l.entries, l.arena = l.entries[:0], l.arena[:0]
	for i := len(l.numbers); i < partitions; i++ {
		l.numbers = append(l.numbers, strconv.Itoa(i))
	}
	defer func() {
		for i := 0; l.computesSum && i < len(l.entries); i++ {
			l.addToSum(&l.entries[i])
		}
	}()
	for b.Next() {
		key := b.Fields[0]
		if len(b.Fields) > 1 {
			key = l.joinFields(b.Fields)
		}
		if partitions > 0 {
			n := xxh3.Hash(key) % uint64(partitions)
			l.entries = append(l.entries, partd.Entry{Key: l.numbers[n], Value: b.Record})
			continue
		}
		if len(key) > partd.MaxKeyLen {
			b.MarkBad(fmt.Errorf("%w: the key has %d bytes, but the limit is %d", partd.ErrTooLarge, len(key), partd.MaxKeyLen))
			continue
		}
		l.entries = append(l.entries, partd.Entry{Key: unsafe.String(unsafe.SliceData(key), len(key)), Value: b.Record})
	}
}

// joinFields returns a key for several fields. It never moves earlier keys, because entries refer
// to them.
func (l *entryList) joinFields(fields [][]byte) []byte {
	size := len(fields) // upper bound
	for _, f := range fields {
		size += 2*len(f) + 2
	}
	if cap(l.arena)-len(l.arena) < size {
		l.arena = make([]byte, 0, max(2*cap(l.arena), size, 64<<10))
	}
	from := len(l.arena)
	l.arena = filejobs.AppendCSVKey(l.arena, fields)
	return l.arena[from:]
}

// addToSum adds the hash of a key and its record to l.sum; see [partd.CheckResult].
func (l *entryList) addToSum(e *partd.Entry) {
	l.hashed = binary.AppendUvarint(l.hashed[:0], uint64(len(e.Key)))
	l.hashed = append(l.hashed, e.Key...)
	l.hashed = append(l.hashed, e.Value...)
	l.sum.AddRecord(l.hashed)
}

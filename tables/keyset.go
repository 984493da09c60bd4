package tables

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/keymap"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// keySet contains the keys of an upsert's rows, each with its row number, counted from 1. It holds the keys in a hash
// table in memory. If they need more than limit bytes, it moves them to a temporary file. From then on, contains
// returns an error, and findRows must be used to find the table's rows with these keys.
type keySet struct {
	columns  []string // key columns, in the table's order
	limit    int64    // maximum memory, in bytes
	nullKeys bool     // see UpsertOptions.NullKeys

	// slots is a hash table for keymap.InsertSlot. The upper half of a slot is a hash. The lower half is the index of a
	// record's chunk plus 1, followed by keyChunkBits bits with the record's offset in the chunk. A record is a row
	// number and the key's length, as uvarints, and the key.
	seed       maphash.Seed
	slots      []uint64
	lastRead   atomic.Uint64 // only keeps the compiler from removing reads of slots
	numKeys    int
	chunks     [][]byte
	chunkBytes int64 // capacity of all chunks
	maxKeyLen  int   // length of the longest key

	file *spill.File // contains the records; nil if they are in memory
}

const (
	keyChunkBits  = 16
	keyChunkBytes = 1 << keyChunkBits        // size of a chunk, but a longer record has its own chunk
	maxKeyChunks  = 1<<(32-keyChunkBits) - 1 // so that a chunk's index plus 1 fits in a slot
	keyBlockBytes = 1 << 18                  // bytes of the temporary file that share a checksum
)

func newKeySet(columns []string, limit int64, nullKeys bool) *keySet {
	return &keySet{columns: columns, limit: limit, nullKeys: nullKeys, seed: maphash.MakeSeed(), slots: make([]uint64, 16)}
}

// close removes the temporary file. k can be nil.
func (k *keySet) close() {
	if k != nil {
		_ = k.file.Close() // The file has no name, so nothing remains even after an error.
		k.file = nil
	}
}

// add adds the keys in a batch. rowsBefore is the number of rows in earlier batches. add returns an error if a key is
// null and k.nullKeys is false, or if a key is already in memory. findRows detects other repeated keys.
func (k *keySet) add(b arrow.RecordBatch, rowsBefore int64) error {
	columns := schema.Columns(b, k.columns)
	for i, c := range columns {
		if c.NullN() > 0 && !k.nullKeys {
			row := 0
			for c.IsValid(row) {
				row++
			}
			return schema.Errorf(k.columns[i], "row %d contains a null: a key must not be null", rowsBefore+int64(row)+1)
		}
	}
	var record []byte
	return k.eachKey(columns, 0, int(b.NumRows()), func(i int, hash uint64, key []byte) error {
		row := rowsBefore + int64(i) + 1
		k.maxKeyLen = max(k.maxKeyLen, len(key))
		record = binary.AppendUvarint(binary.AppendUvarint(record[:0], uint64(row)), uint64(len(key)))
		record = append(record, key...)
		if k.file == nil {
			if firstRow := k.find(hash, key); firstRow > 0 {
				keyText := ""
				for j, c := range columns {
					keyText += fmt.Sprintf(" %s = %s", strconv.Quote(k.columns[j]), c.ValueStr(i))
				}
				return k.repeatedKeyError(firstRow, row, ","+keyText)
			}
			if k.insert(hash, record) {
				return nil
			}
			if err := k.spill(); err != nil {
				return err
			}
		}
		_, err := k.file.Write(record)
		return err
	})
}

func (k *keySet) repeatedKeyError(firstRow, secondRow int64, keyText string) error {
	return schema.Errorf(k.columns[0], "rows %d and %d have the same key%s: remove one of them", firstRow, secondRow, keyText)
}

// find returns the row number of a key in memory, or 0.
func (k *keySet) find(hash uint64, key []byte) int64 {
	mask := uint32(len(k.slots) - 1)
	for i := uint32(hash) & mask; k.slots[i] != 0; i = (i + 1) & mask {
		slot := k.slots[i]
		if uint32(slot>>32) != uint32(hash) {
			continue
		}
		record := k.chunks[uint32(slot)>>keyChunkBits-1][slot&(keyChunkBytes-1):]
		row, n := binary.Uvarint(record)
		length, m := binary.Uvarint(record[n:])
		record = record[n+m:]
		if length == uint64(len(key)) && string(record[:length]) == string(key) {
			return int64(row)
		}
	}
	return 0
}

// insert adds a record whose key is not in memory. It returns false if the set would then exceed limit or maxKeyChunks.
func (k *keySet) insert(hash uint64, record []byte) bool {
	if (k.numKeys+1)*4 > len(k.slots)*3 {
		if k.chunkBytes+int64(3*len(k.slots))*8 > k.limit { // the old and the new table exist at the same time
			return false
		}
		old := k.slots
		k.slots = make([]uint64, 2*len(old))
		keymap.MoveSlots(k.slots, old)
	}
	last := len(k.chunks) - 1
	if last < 0 || cap(k.chunks[last])-len(k.chunks[last]) < len(record) {
		size := int64(max(keyChunkBytes, len(record)))
		if last+1 == maxKeyChunks || k.chunkBytes+int64(len(k.slots))*8+size > k.limit {
			return false
		}
		k.chunks = append(k.chunks, make([]byte, 0, size))
		last, k.chunkBytes = last+1, k.chunkBytes+size
	}
	keymap.InsertSlot(k.slots, hash<<32|uint64(last+1)<<keyChunkBits|uint64(len(k.chunks[last])))
	k.chunks[last] = append(k.chunks[last], record...)
	k.numKeys++
	return true
}

// spill moves the keys to a temporary file.
func (k *keySet) spill() error {
	f, err := tempdir.Create()
	if err != nil {
		return err
	}
	k.file = spill.New(f, "the keys of an upsert", keyBlockBytes)
	k.file.Quota = &spill.Process
	for _, chunk := range k.chunks {
		if _, err := k.file.Write(chunk); err != nil {
			return err
		}
	}
	k.slots, k.chunks = nil, nil
	return nil
}

// eachSpilled calls visit for each key in the temporary file. visit must not keep the key. After eachSpilled, add must
// not be called.
func (k *keySet) eachSpilled(visit func(key []byte, row int64) error) error {
	if err := k.file.Flush(); err != nil {
		return err
	}
	var key []byte
	for in := bufio.NewReader(k.file.NewReader()); ; {
		row, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var length uint64
		if err == nil {
			length, err = binary.ReadUvarint(in)
		}
		if err == nil {
			key = append(key[:0], make([]byte, length)...)
			_, err = io.ReadFull(in, key)
		}
		if err == nil {
			err = visit(key, int64(row))
		}
		if err != nil {
			return err
		}
	}
}

// contains reports for each row of a batch whether its key is in the set. If the set's keys are in a temporary file,
// contains returns an error that wraps partd.ErrTooLarge.
func (k *keySet) contains(b arrow.RecordBatch) ([]bool, error) {
	if k.file != nil {
		return nil, fmt.Errorf("the keys need more than a quarter of Options.Memory, and one of the table's rules compares new rows with the whole table: put the rows in several upserts: %w", partd.ErrTooLarge)
	}
	const rowsPerWorker = 1 << 13 // a batch from a file has at most four times as many rows
	out, columns := make([]bool, b.NumRows()), schema.Columns(b, k.columns)
	starts := func(yield func(int) bool) {
		for from := 0; from < len(out) && yield(from); from += rowsPerWorker {
		}
	}
	err := parallel.Each(context.Background(), starts, 0, func(_ context.Context, from int) error {
		return k.eachKey(columns, from, min(from+rowsPerWorker, len(out)), func(i int, hash uint64, key []byte) error {
			out[i] = k.find(hash, key) > 0
			return nil
		})
	})
	return out, err
}

// eachKey calls visit, in order, for the rows in [from, to) whose key can be in the set. visit must not keep the key.
func (k *keySet) eachKey(columns []arrow.Array, from, to int, visit func(row int, hash uint64, key []byte) error) error {
	var block struct { // the next keys
		rows, ends [64]int // row number of each key, and its end in keys
		hashes     [64]uint64
		keys       []byte
	}
	appendKey := k.appender(columns)
	for start := from; start < to; start += len(block.rows) {
		n, slot := 0, uint64(0)
		block.keys = block.keys[:0]
		for i := start; i < min(start+len(block.rows), to); i++ {
			if !k.hasKey(columns, i) {
				continue
			}
			first := len(block.keys)
			block.keys = appendKey(block.keys, i)
			block.rows[n], block.ends[n], block.hashes[n] = i, len(block.keys), maphash.Bytes(k.seed, block.keys[first:])
			if len(k.slots) > 0 {
				// Read the slots early, so that their cache misses overlap.
				slot |= k.slots[uint32(block.hashes[n])&uint32(len(k.slots)-1)]
			}
			n++
		}
		k.lastRead.Store(slot)
		for i, first := 0, 0; i < n; first, i = block.ends[i], i+1 {
			if err := visit(block.rows[i], block.hashes[i], block.keys[first:block.ends[i]]); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasKey reports whether a row's key can be in the set: no key column is null, or k.nullKeys is true.
func (k *keySet) hasKey(columns []arrow.Array, row int) bool {
	return k.nullKeys || !slices.ContainsFunc(columns, func(c arrow.Array) bool { return c.IsNull(row) })
}

// appender returns a function that appends the encoding of a row's key to dst. Different keys have different encodings.
// checkKeys must accept columns.
func (k *keySet) appender(columns []arrow.Array) func(dst []byte, row int) []byte {
	return sorted.RowKeyAppender(columns, k.nullKeys)
}

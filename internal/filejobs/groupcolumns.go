package filejobs

import (
	"encoding/binary"
	"slices"

	"github.com/go-partd/partd/internal/records"
)

// addColumns adds records of a block to the batch, column by column, which is faster than one record
// after another. If that is impossible, it returns the number of records that must be split by Next:
// records with an invalid value or a key longer than limit, or a record that NextColumns cannot split.
func (w *groupWorker) addColumns(b *records.Block, limit int) int {
	g, c, first := w.g, w.columns, len(w.keys)
	n := b.NextColumns(c, groupBatch-first)
	if n == 0 {
		return 1
	}
	ok := true
	for col := 0; col < g.valueCount && ok; col++ {
		from, to := c.From[g.keyCount+col][:n], c.To[g.keyCount+col][:n]
		ok = g.program.ParseColumn(w.values, first, col, c.Data, from, to)
	}
	if ok {
		w.appendKeys(n)
		ok = !slices.ContainsFunc(w.keys[first:], func(key []byte) bool { return len(key) > limit })
	}
	if !ok {
		w.keys = w.keys[:first]
		b.UndoColumns()
		return n
	}
	return 0
}

// appendKeys appends the keys of the first n records in w.columns to w.keys. The keys are those of
// job.keyBy.
func (w *groupWorker) appendKeys(n int) {
	c := w.columns
	if w.g.keyCount == 1 {
		to := c.To[0][:n]
		for i, from := range c.From[0][:n] {
			w.keys = append(w.keys, c.Data[from:to[i]])
		}
		return
	}
	for i := range n {
		start := len(w.keyBuf)
		for k := range w.g.keyCount {
			w.keyBuf = appendKeyField(w.keyBuf, c.Data, int(c.From[k][i]), int(c.To[k][i]))
		}
		w.keys = append(w.keys, w.keyBuf[start:]) // stays valid if append reallocates keyBuf later
	}
}

// appendKeyField appends data[from:to] as appendKey does for a text. It is faster for short fields.
func appendKeyField(dst, data []byte, from, to int) []byte {
	const (
		eachByte = 0x0101010101010101
		highBits = 0x80 * eachByte
	)
	n := to - from
	if n > 6 || from+8 > len(data) {
		return appendKey(dst, [][]byte{data[from:to]}, nil)
	}
	mask := uint64(1)<<(8*n) - 1
	word := binary.LittleEndian.Uint64(data[from:]) & mask
	if filled := word | ^mask; (filled-eachByte)&^filled&highBits != 0 { // the field contains a NUL
		return appendKey(dst, [][]byte{data[from:to]}, nil)
	}
	dst = binary.LittleEndian.AppendUint64(dst, word|endText<<8<<(8*n))
	return dst[:len(dst)-6+n]
}

package group

import (
	"encoding/binary"
	"slices"

	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
)

// addColumns adds records from a block to the batch, column by column, which is faster than one
// record after another. It returns the number of records that Next must split instead, or 0. These
// are the records in a batch that has an invalid value or a key longer than limit, or several
// records if NextColumns cannot split the first.
func (w *worker) addColumns(b *records.Block, limit int) int {
	g, c, first := w.engine, w.columns, len(w.keys)
	n := b.NextColumns(c, batchLen-first)
	if n == 0 {
		return 16 // not only 1, because further records are likely to have a quote too
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

// appendKeys appends the keys of the first n records in w.columns to w.keys. They are the same keys as
// from job.KeyBy.
func (w *worker) appendKeys(n int) {
	c, count := w.columns, w.engine.keyCount
	if count == 1 {
		to := c.To[0][:n]
		for i, from := range c.From[0][:n] {
			w.keys = append(w.keys, c.Data[from:to[i]])
		}
		return
	}
	buf := slices.Grow(w.keyBuf, 8*n*count)
	for i := range n {
		start := len(buf)
		for k := range count {
			from, to := int(c.From[k][i]), int(c.To[k][i])
			if size := to - from; size <= 6 && from+8 <= len(c.Data) && len(buf)+8 <= cap(buf) {
				if word, ok := filejobs.ShortKey(binary.LittleEndian.Uint64(c.Data[from:]), size); ok {
					binary.LittleEndian.PutUint64(buf[len(buf):len(buf)+8], word)
					buf = buf[:len(buf)+size+2]
					continue
				}
			}
			buf = filejobs.AppendKey(buf, [][]byte{c.Data[from:to]}, nil)
		}
		w.keys = append(w.keys, buf[start:]) // stays valid if append reallocates buf later
	}
	w.keyBuf = buf
}

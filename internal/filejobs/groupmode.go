package filejobs

import (
	"encoding/binary"
	"fmt"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/output"
)

// sortKey returns what a part of a group is sorted by: its key, and where values are
// counted, what part it is, so that the aggregated part comes first.
func (g *groupEngine) sortKey(buf, key []byte, part byte) []byte {
	if !g.sortsParts() {
		return key
	}
	return append(extsort.AppendText(buf[:0], key), part)
}

// sort sorts the values of a record that are kept, and those that are counted.
func (w *groupWorker) sort(key []byte, values [][]byte, bare []bool) error {
	if len(w.g.kept) > 0 {
		if err := w.to.Add(w.g.sortKey(w.key, key, keptValues), w.keptOf(values, bare)); err != nil {
			return err
		}
	}
	for i, col := range w.g.modes {
		v := values[col]
		if len(v) == 0 {
			continue
		}
		w.key = binary.AppendUvarint(w.g.sortKey(w.key, key, countedValue), uint64(i))
		w.key = append(w.key, v...)
		w.sorted = append(w.sorted[:0], countedValue, byte(i), byte(i>>8), 0)
		if bare[col] {
			w.sorted[3] = 1
		}
		w.sorted = append(w.sorted, v...)
		if err := w.to.Add(w.key, w.sorted); err != nil {
			return err
		}
	}
	return nil
}

// countedColumn is what is known of the values of a mode that came so far.
type countedColumn struct {
	values uint64
	same   uint64 // of them, the last, that are the same as bytes
	most   uint64 // of these, at most
	json   bool   // the first of these is as JSON has it
	held   bool   // mode is the last value
	mode   output.Value
}

// hasAll returns an error unless so many values are all that spec i is made of.
func (r *groupRow) hasAll(i int, values uint64) error {
	if all := r.g.program.Values(i, r.words); values != all {
		return fmt.Errorf("%w: %s has %d of %d values", errPart, r.g.specs[i].Text, values, all)
	}
	return nil
}

// columnOf returns the number of a column, of n, that a part begins with, and the rest.
func columnOf(rec []byte, n int) (i int, rest []byte, ok bool) {
	if len(rec) < 2 {
		return 0, nil, false
	}
	i = int(binary.LittleEndian.Uint16(rec))
	return i, rec[2:], i < n
}

// addCounted adds the next value of a mode. Same is that it equals the one before.
func (r *groupRow) addCounted(rec []byte, same bool) error {
	i, rec, ok := columnOf(rec, len(r.modes))
	if !ok || len(rec) < 2 || !r.complete {
		return errPart
	}
	r.modes[i].count(output.Value{Text: rec[1:], JSON: rec[0] == 1}, same)
	return nil
}

// count counts the last value, and holds it where there are more of it than of all
// before, as the first of them was written: in JSON 1 and "1" are one value here.
func (c *countedColumn) count(v output.Value, same bool) {
	c.values++
	if !same {
		c.same, c.held, c.json = 0, false, v.JSON
	}
	if c.same++; c.same <= c.most {
		return
	}
	c.most = c.same
	if !c.held {
		c.held = true
		v.Text, v.JSON = append(c.mode.Text[:0], v.Text...), c.json
		c.mode = v
	}
}

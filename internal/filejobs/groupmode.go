package filejobs

import (
	"encoding/binary"
	"fmt"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/output"
)

// sortKey returns the sort key of a part of a group: the group's key, and if values are
// counted, also the kind of the part, so that the aggregated part comes first.
func (g *groupEngine) sortKey(buf, key []byte, part byte) []byte {
	if !g.sortsParts() {
		return key
	}
	return append(extsort.AppendText(buf[:0], key), part)
}

// sort passes the kept values and the counted values of a record to the sorter.
func (w *groupWorker) sort(key []byte, values [][]byte, bare []bool) error {
	if len(w.g.storedColumns) > 0 {
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

// countedColumn counts the values of a mode's column. Equal values come one after another.
type countedColumn struct {
	values  uint64       // number of values so far
	sameRun uint64       // number of latest values with equal bytes
	maxRun  uint64       // maximum of sameRun
	json    bool         // whether the first value of this run is bare JSON
	isMode  bool         // whether mode is the current value
	mode    output.Value // the most frequent value
}

// hasAll returns an error unless values is the number of values of spec i.
func (r *groupRow) hasAll(i int, values uint64) error {
	if want := r.g.program.Values(i, r.words); values != want {
		return fmt.Errorf("%w: %s has %d of %d values", errPart, r.g.specs[i].Text, values, want)
	}
	return nil
}

// columnOf returns the column number at the beginning of a part, which must be less than n,
// and the rest of the part.
func columnOf(rec []byte, n int) (i int, rest []byte, ok bool) {
	if len(rec) < 2 {
		return 0, nil, false
	}
	i = int(binary.LittleEndian.Uint16(rec))
	return i, rec[2:], i < n
}

// addCounted counts the next value of a mode. sameKey means that it equals the previous value.
func (r *groupRow) addCounted(rec []byte, sameKey bool) error {
	i, rec, ok := columnOf(rec, len(r.modes))
	if !ok || len(rec) < 2 || !r.complete {
		return errPart
	}
	r.modes[i].count(output.Value{Text: rec[1:], JSON: rec[0] == 1}, sameKey)
	return nil
}

// count counts a value, and makes it the mode if it is now more frequent than all earlier
// values. The mode is written like its first occurrence: in JSON, 1 and "1" are one value.
func (c *countedColumn) count(v output.Value, sameKey bool) {
	c.values++
	if !sameKey {
		c.sameRun, c.isMode, c.json = 0, false, v.JSON
	}
	if c.sameRun++; c.sameRun <= c.maxRun {
		return
	}
	c.maxRun = c.sameRun
	if !c.isMode {
		c.isMode = true
		v.Text, v.JSON = append(c.mode.Text[:0], v.Text...), c.json
		c.mode = v
	}
}

package group

import (
	"encoding/binary"
	"fmt"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/output"
)

// sortKey returns the sorter's key for a part of a group's data: the group's key and, if the parts
// are sorted by kind (see aggregatedPart), the kind.
func (g *engine) sortKey(buf, key []byte, kind byte) []byte {
	if !g.sortsParts() {
		return key
	}
	return append(extsort.AppendText(buf[:0], key), kind)
}

// sendValues passes a record's values in storedColumns and modeColumns to the sorter.
func (w *worker) sendValues(key []byte, values [][]byte, bare []bool) error {
	if len(w.engine.storedColumns) > 0 {
		if err := w.writer.Add(w.engine.sortKey(w.sortKeyBuf, key, storedPart), w.encodeStored(values, bare)); err != nil {
			return err
		}
	}
	for i, col := range w.engine.modeColumns {
		v := values[col]
		if len(v) == 0 {
			continue
		}
		w.sortKeyBuf = binary.AppendUvarint(w.engine.sortKey(w.sortKeyBuf, key, modePart), uint64(i))
		w.sortKeyBuf = append(w.sortKeyBuf, v...)
		w.recordBuf = append(w.recordBuf[:0], modePart, byte(i), byte(i>>8), 0)
		if bare[col] {
			w.recordBuf[3] = 1
		}
		w.recordBuf = append(w.recordBuf, v...)
		if err := w.writer.Add(w.sortKeyBuf, w.recordBuf); err != nil {
			return err
		}
	}
	return nil
}

// modeFinder finds the most frequent value of a column. Equal values must be adjacent.
type modeFinder struct {
	valueCount uint64       // number of values so far
	runLen     uint64       // number of values in the current run of equal values
	maxRunLen  uint64       // largest runLen so far
	isJSON     bool         // the first value of the current run is bare JSON (a number or boolean)
	isMode     bool         // the current value is the mode
	mode       output.Value // the most frequent value so far
}

// checkCount returns an error unless aggregate i received as many values from the sorter as the hash
// table counted.
func (r *rowBuilder) checkCount(i int, values uint64) error {
	if want := r.engine.program.Values(i, r.words); values != want {
		return fmt.Errorf("%w: %s received %d of %d values", errPart, r.engine.specs[i].Text, values, want)
	}
	return nil
}

// cutColumn splits rec into the column index at its beginning and the bytes after it. ok reports
// whether the index is less than n.
func cutColumn(rec []byte, n int) (i int, rest []byte, ok bool) {
	if len(rec) < 2 {
		return 0, nil, false
	}
	i = int(binary.LittleEndian.Uint16(rec))
	return i, rec[2:], i < n
}

// addModeValue counts a value. sameKey reports whether the value equals the previous one.
func (r *rowBuilder) addModeValue(rec []byte, sameKey bool) error {
	i, rec, ok := cutColumn(rec, len(r.modes))
	if !ok || len(rec) < 2 || !r.complete {
		return errPart
	}
	r.modes[i].count(output.Value{Text: rec[1:], JSON: rec[0] == 1}, sameKey)
	return nil
}

// count counts a value and makes it the mode if it is now more frequent than all earlier
// values. The JSON values 1 and "1" count as the same; the mode keeps the form that came first.
func (c *modeFinder) count(v output.Value, sameKey bool) {
	c.valueCount++
	if !sameKey {
		c.runLen, c.isMode, c.isJSON = 0, false, v.JSON
	}
	c.runLen++
	if c.runLen <= c.maxRunLen {
		return
	}
	c.maxRunLen = c.runLen
	if !c.isMode {
		c.isMode = true
		v.Text, v.JSON = append(c.mode.Text[:0], v.Text...), c.isJSON
		c.mode = v
	}
}

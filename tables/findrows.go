package tables

import (
	"context"
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/tables/internal/files/datafile"
)

// findRows returns the rows in the tasks' files whose keys are in the set. The set's keys must be in its temporary
// file. findRows sorts them together with the files' keys, in temporary files. The sort uses at most k.limit bytes of
// memory, or extsort.MinMemory if that is more. The result can take another k.limit bytes. If a key is in the set
// twice, or is too large for the sorter, findRows returns an error.
func (k *keySet) findRows(ctx context.Context, scan *datafile.Scan, t *table.Table, tasks []table.FileScanTask) (datafile.Deleted, error) {
	sorter, err := extsort.New(ctx, &extsort.Options{Memory: max(k.limit, extsort.MinMemory), Threads: 1, KeepKeys: true})
	if err != nil {
		return nil, err
	}
	defer sorter.Close() //nolint:errcheck // the temporary files have no names
	w, err := sorter.Writer()
	if err != nil {
		return nil, err
	}
	// Add the set's keys first: the sort is stable, so they come before equal keys from files. A record is a source and
	// a row number. Source 0 is the set, and source i is task i-1.
	var record []byte
	addRow := func(key []byte, source int, row int64) error {
		record = binary.AppendUvarint(binary.AppendUvarint(record[:0], uint64(source)), uint64(row))
		return w.Add(key, record)
	}
	err = k.eachSpilled(func(key []byte, row int64) error { return addRow(key, 0, row) })
	if err != nil {
		return nil, err
	}
	for i, f := range datafile.ToRead(t, tasks) {
		var key []byte
		err := scan.Visit(ctx, f, scan.Columns, func(firstRow int64, keep []bool, columns []arrow.Array) error {
			appendKey := k.appender(columns)
			for j := range keep {
				if keep[j] && k.hasKey(columns, j) {
					key = appendKey(key[:0], j)
					if len(key) <= k.maxKeyLen { // longer keys are not in the set, and may be too large for the sorter
						if err := addRow(key, i+1, firstRow+int64(j)); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return k.matches(sorter, tasks)
}

// matches returns the files' rows whose keys are in the set, given the sorted keys. If a key is in the set twice,
// matches returns an error.
func (k *keySet) matches(sorter *extsort.Sorter, tasks []table.FileScanTask) (datafile.Deleted, error) {
	rows := datafile.Deleted{}
	upsertRow := int64(0) // number of the upserted row with the current key, or 0
	for block, err := range sorter.Sorted() {
		if err != nil {
			return nil, err
		}
		for i := range block.Len() {
			if !block.SameKey(i) {
				upsertRow = 0
			}
			source, n := binary.Uvarint(block.Record(i))
			row, _ := binary.Uvarint(block.Record(i)[n:])
			switch {
			case source > 0 && upsertRow > 0:
				if err := rows.Add(tasks[source-1].File.FilePath(), int64(row), k.limit); err != nil {
					return nil, err
				}
			case source == 0 && upsertRow > 0:
				return nil, k.repeatedKeyError(upsertRow, int64(row), "")
			case source == 0:
				upsertRow = int64(row)
			}
		}
	}
	return rows, nil
}

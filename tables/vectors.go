package tables

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/internal/files/datafile"
)

// canMark reports whether w.vectors is set and vectors can mark rows in all files. They cannot if other programs have
// deleted rows in a file with position delete files, because a vector would replace these.
func (w *rewrite) canMark(tasks []table.FileScanTask) bool {
	return w.vectors && !slices.ContainsFunc(tasks, func(task table.FileScanTask) bool { return len(task.DeleteFiles) > 0 })
}

// locate returns the positions of the rows that d selects in the tasks' files, in bitmaps of at most limit bytes.
func (d *deletePredicate) locate(ctx context.Context, scan *datafile.Scan, t *table.Table, tasks []table.FileScanTask, limit int64) (datafile.Deleted, error) {
	found, columns := datafile.Deleted{}, scan.Schema()
	for _, f := range datafile.ToRead(t, tasks) {
		err := scan.Visit(ctx, f, scan.Columns, func(firstRow int64, keep []bool, values []arrow.Array) error {
			b := array.NewRecordBatch(columns, values, int64(len(keep)))
			defer b.Release()
			deleted, err := d.matches(b)
			for i := 0; i < len(keep) && err == nil; i++ {
				if keep[i] && deleted[i] {
					err = found.Add(f.Path, firstRow+int64(i), limit)
				}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// writeVectors writes a deletion vector for each file that contains rows in w.positions. The vector replaces the file's
// earlier deletion vector and includes its rows.
func (w *rewrite) writeVectors(ctx context.Context, tasks []table.FileScanTask) error {
	meta := w.t.Metadata()
	out := dv.NewDVWriter(w.IO, func(id int32) *iceberg.PartitionSpec { return meta.PartitionSpecByID(int(id)) })
	for _, task := range tasks {
		name, spec, partition := task.File.FilePath(), task.File.SpecID(), task.File.Partition()
		for _, f := range task.DeletionVectorFiles {
			rows, err := datafile.ReadVector(w.IO, f)
			if err != nil {
				return err
			}
			out.Load(name, rows, spec, partition)
			w.oldVectors = append(w.oldVectors, f)
		}
		for i, word := range w.positions[name] {
			for ; word != 0; word &= word - 1 {
				if err := out.AddPosition(name, int64(64*i+bits.TrailingZeros64(word)), spec, partition); err != nil {
					return err
				}
			}
		}
		w.result.Deleted += w.positions.Count(name)
	}
	locations, err := w.t.LocationProvider()
	if err != nil {
		return err
	}
	w.newVectors, err = out.Flush(ctx, locations.NewDataLocation(fmt.Sprintf("%s-deletes.puffin", uuid.NewString())))
	return err
}

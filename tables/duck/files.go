//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
)

// setFiles sets the files of the table's view. It writes rows that DuckDB cannot read from the table's files to a file
// of s. It uses at most maxMemory bytes to make the bitmaps of the table's deleted rows. If they need more than
// maxBitmaps bytes, all rows are copied. If describeOnly is true, setFiles does nothing for a table whose rows must all
// be copied.
func (t *boundTable) setFiles(ctx context.Context, s *scratch, maxMemory, maxBitmaps int64, describeOnly bool) (err error) {
	p := t.plan
	if p.OnlyDeletes && !t.copied && !t.isTarget && !t.hidesRowNumbers() { // row numbers of targets skip deleted rows
		t.deletedRows, err = s.deletedRows(ctx, p, maxMemory)
		if err != nil {
			return err
		}
	}
	switch {
	case p.NeedsScan && (t.deletedRows == nil || !t.deletedRows.hasBitmaps(maxBitmaps)) || t.copied:
		if describeOnly {
			return nil
		}
		t.isPrivate = true
		t.extraRows, err = s.rowsOf(ctx, p, "")
	default:
		t.files = slices.Clone(p.Files)
		for i := range t.files {
			t.files[i].HasDeletes = t.deletedRows != nil && t.deletedRows.bitmaps[i].Bytes > 0
		}
		if len(p.Tail) > 0 {
			t.extraRows, err = s.rowsOf(ctx, p, p.TailMark)
		}
	}
	if err == nil && t.extraRows != nil {
		t.files = append(t.files, t.extraRows.planned())
	}
	if err == nil && slices.ContainsFunc(t.files, isLarge) {
		t.emptyFile, err = s.emptyFile()
	}
	return err
}

// A table's view reads each group of files with one function call.
const (
	plain       = iota // no rows are deleted
	deleted            // bitmaps say which rows are deleted
	overlapping        // rows in the tail can replace rows, and bitmaps can say which rows are deleted
	fileGroups
)

func (t *boundTable) fileGroups() (groups [fileGroups][]tables.PlannedFile) {
	for _, f := range t.files {
		groups[groupOf(f)] = append(groups[groupOf(f)], f)
	}
	return groups
}

func groupOf(f tables.PlannedFile) int {
	switch {
	case f.Overlaps:
		return overlapping
	case f.HasDeletes:
		return deleted
	}
	return plain
}

// keepFunction returns the function that omits the deleted rows of a group of files. Its name is "" if no rows are
// deleted.
func (t *boundTable) keepFunction(group int) (k database.KeepFunction) {
	if t.deletedRows == nil || group == plain {
		return k
	}
	for i, f := range t.files {
		if groupOf(f) != group {
			continue
		}
		k.Bitmaps = append(k.Bitmaps, t.deletedRows.bitmaps[i])
		if f.HasDeletes {
			k.Name, k.Path = fmt.Sprintf("partd_keep_%d_%d", t.index, group), t.deletedRows.path
		}
	}
	return k
}

package series

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// DuplicateError is the error for a put with duplicates in a table whose settings forbid them. Duplicates are rows with
// the same time and keys as other rows.
type DuplicateError struct {
	Count int64    // number of duplicates
	Rows  []string // the first ten duplicates; nil if only their number is known
}

func (e *DuplicateError) Error() string {
	if len(e.Rows) == 0 {
		return fmt.Sprintf("%d new rows have the same time and keys as other new rows", e.Count)
	}
	text := fmt.Sprintf("%d rows have the same time and keys as other rows, which on_duplicate=error forbids: %s", e.Count, strings.Join(e.Rows, "; "))
	if int64(len(e.Rows)) < e.Count {
		text += "; …"
	}
	return text
}

// Dedup applies the table's rule for duplicates to existing and new files. Neither group of files may contain
// duplicates within itself. It returns the files to add, some of which it may write, and the files that they replace.
func (s *Series) Dedup(ctx context.Context, existing []*File, added []iceberg.DataFile) (add, replaced []iceberg.DataFile, err error) {
	s = s.withLineage()
	written := s.Written(added)
	existing = OverlappingFiles(existing, written)
	if len(existing) == 0 || s.Merging() == sorted.All {
		return added, nil, nil
	}
	// With KeepFirst, existing rows hide new duplicates; with KeepLast, new rows hide existing ones. Files with hidden
	// rows are rewritten.
	hiding, hidden := existing, written
	if s.Rule == definition.KeepLast {
		hiding, hidden = written, existing
	}
	for _, f := range hidden {
		overlapping := OverlappingFiles(hiding, []*File{f})
		hidingRows, err := s.keySources(ctx, overlapping, f.Bounds, true)
		if err != nil {
			return nil, nil, err
		}
		ownRows, err := s.keySources(ctx, []*File{f}, spanOf(overlapping), false)
		if err != nil {
			return nil, nil, err
		}
		isHidden, err := notEmpty(s.merge(ctx, sorted.Extra, slices.Concat(hidingRows, ownRows)...))
		if err != nil {
			return nil, nil, err
		}
		if !isHidden {
			if s.Rule == definition.KeepFirst {
				add = append(add, f.Data())
			}
			continue
		}
		// The hiding rows come first, so the merge omits the rows that they hide.
		files, err := s.Write(ctx, s.merge(ctx, sorted.First, append(hidingRows, s.source(ctx, f, s.project(nil), nil))...))
		if err != nil {
			return nil, nil, err
		}
		add = append(add, files...)
		if s.Rule == definition.KeepLast {
			replaced = append(replaced, f.Data())
		}
	}
	if s.Rule == definition.KeepLast {
		add = append(add, added...)
	}
	return add, replaced, nil
}

// RejectDuplicates returns a DuplicateError if rows of new files are duplicates of existing rows or of each other.
func (s *Series) RejectDuplicates(ctx context.Context, existing []*File, added []iceberg.DataFile) error {
	written := s.Written(added)
	existingRows, err := s.keySources(ctx, OverlappingFiles(existing, written), spanOf(written), true)
	if err != nil {
		return err
	}
	newRows, err := s.keySources(ctx, written, nil, false)
	if err != nil {
		return err
	}
	e := &DuplicateError{}
	for batch, err := range s.merge(ctx, sorted.Extra, append(existingRows, newRows...)...) {
		if err != nil {
			return err
		}
		for i := 0; i < int(batch.NumRows()) && len(e.Rows) < 10; i++ {
			var texts []string
			for j, column := range batch.Columns() {
				texts = append(texts, batch.ColumnName(j)+" "+column.ValueStr(i))
			}
			e.Rows = append(e.Rows, strings.Join(texts, ", "))
		}
		e.Count += batch.NumRows()
		batch.Release()
	}
	if e.Count == 0 {
		return nil
	}
	return e
}

func excludeFiles(files, excluded []iceberg.DataFile) []iceberg.DataFile {
	return slices.DeleteFunc(slices.Clone(files), func(f iceberg.DataFile) bool {
		return slices.ContainsFunc(excluded, func(g iceberg.DataFile) bool { return g.FilePath() == f.FilePath() })
	})
}

func notEmpty(rows batches.Seq) (bool, error) {
	parts := batches.NewSplitter(rows)
	defer parts.Close()
	first, err := parts.Peek()
	return first != nil, err
}

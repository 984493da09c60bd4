package series

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// DuplicateError is the error of a put that would have made rows of equal time and
// keys, where the table's settings say that there are none.
type DuplicateError struct {
	Count int64    // of rows that are one too many
	Rows  []string // the first of them, up to ten
}

func (e *DuplicateError) Error() string {
	text := fmt.Sprintf("%d rows are equal in time and keys to others, and on_duplicate is error: %s", e.Count, strings.Join(e.Rows, "; "))
	if int64(len(e.Rows)) < e.Count {
		text += "; …"
	}
	return text
}

// Dedup applies the rule for duplicates where files come to those that a table has.
// Neither hold any among themselves. It returns the files to add, which are written
// through the table, and those that these take the place of.
func (s *Series) Dedup(ctx context.Context, has []*File, come []iceberg.DataFile) (add, gone []iceberg.DataFile, err error) {
	written := s.Written(come)
	has = Touching(has, written)
	if len(has) == 0 || s.Merging() == sorted.All {
		return come, nil, nil
	}
	// By either rule, rows of some files hide those of others, which are written again
	// where there are any.
	hiding, hidden := has, written
	if s.Rule == definition.KeepLast {
		hiding, hidden = written, has
	}
	for _, f := range hidden {
		over := Touching(hiding, []*File{f})
		others, err := s.shadowing(ctx, over, f.Bounds, true)
		if err != nil {
			return nil, nil, err
		}
		own, err := s.shadowing(ctx, []*File{f}, spanOf(over), false)
		if err != nil {
			return nil, nil, err
		}
		some, err := notEmpty(s.merge(ctx, sorted.Extra, slices.Concat(others, own)...))
		if err != nil {
			return nil, nil, err
		}
		if !some {
			if s.Rule == definition.KeepFirst {
				add = append(add, f.Data())
			}
			continue
		}
		// The hiding rows come first, and those that they hide are left out.
		files, err := s.Write(ctx, s.merge(ctx, sorted.First, append(others, s.source(ctx, f, s.project(nil), nil))...))
		if err != nil {
			return nil, nil, err
		}
		add = append(add, files...)
		if s.Rule == definition.KeepLast {
			gone = append(gone, f.Data())
		}
	}
	if s.Rule == definition.KeepLast {
		add = append(add, come...)
	}
	return add, gone, nil
}

// Refuse returns a DuplicateError if files that come have rows that are equal to
// others, there or among them.
func (s *Series) Refuse(ctx context.Context, has []*File, come []iceberg.DataFile) error {
	written := s.Written(come)
	others, err := s.shadowing(ctx, Touching(has, written), spanOf(written), true)
	if err != nil {
		return err
	}
	own, err := s.shadowing(ctx, written, nil, false)
	if err != nil {
		return err
	}
	e := &DuplicateError{}
	for batch, err := range s.merge(ctx, sorted.Extra, append(others, own...)...) {
		if err != nil {
			return err
		}
		for i := 0; i < int(batch.NumRows()) && len(e.Rows) < 10; i++ {
			var texts []string
			for at, column := range batch.Columns() {
				texts = append(texts, batch.ColumnName(at)+" "+column.ValueStr(i))
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

// without returns files without those that are gone.
func without(files, gone []iceberg.DataFile) []iceberg.DataFile {
	return slices.DeleteFunc(slices.Clone(files), func(f iceberg.DataFile) bool {
		return slices.ContainsFunc(gone, func(g iceberg.DataFile) bool { return g.FilePath() == f.FilePath() })
	})
}

func notEmpty(rows sorted.Batches) (bool, error) {
	next, stop := iter.Pull2(rows)
	defer stop()
	b, err, ok := next()
	if ok && err == nil {
		b.Release()
	}
	return ok, err
}

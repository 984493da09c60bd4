package datafile

import (
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// The library ends a page by its bytes alone. As deltas 131,072 times may take 6 KB, and who
// wants a few of them would decode all.
const (
	pageBytes  = 64 << 10 // a reader that knows where to look decodes little else
	pageRows   = 8 << 10  // at most, where no column has parts: as many as 64 KiB have of 8 bytes
	mostValues = 1024     // after which the library looks whether a page is large enough
)

// pager is what the library's columns have besides their interface.
type pager interface{ FlushCurrentPage() error }

// writePages writes a column of a group, in pages of so many rows at most.
func (e *encoder) writePages(ctx context.Context, to pqfile.ColumnChunkWriter, a arrow.Array, nullable bool, rows int) error {
	pages, ok := to.(pager)
	if !ok {
		return errors.New("the library does not end a page where it is told to")
	}
	ctx = pqarrow.NewArrowWriteContext(ctx, &arrowProperties)
	levels := e.levels(a, nullable)
	for from := 0; from < a.Len(); from += rows {
		end := min(from+rows, a.Len())
		var at []int16
		if levels != nil {
			at = levels[from:end]
		}
		part := array.NewSlice(a, int64(from), int64(end))
		err := pqarrow.WriteArrowToColumn(ctx, to, part, at, nil, nullable)
		part.Release()
		if err != nil {
			return err
		}
		// The library may just have ended a page, as large ones do.
		if about := to.PageStatistics(); about != nil && about.NumValues()+about.NullCount() > 0 {
			if err := pages.FlushCurrentPage(); err != nil {
				return err
			}
		}
	}
	return nil
}

// levels says which values of a column without parts are there, as Parquet does.
func (e *encoder) levels(a arrow.Array, nullable bool) []int16 {
	switch {
	case !nullable:
		return nil
	case a.NullN() == 0:
		return e.ones[:a.Len()]
	}
	all := make([]int16, a.Len())
	for i := range all {
		if a.IsValid(i) {
			all[i] = 1
		}
	}
	return all
}

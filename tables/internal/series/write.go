package series

import (
	"context"
	"iter"
	"math"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// WriteSorted sorts rows and writes them as data files. It removes or refuses duplicates among
// them, as the table's rule says.
func (s *Series) WriteSorted(ctx context.Context, rows sorted.Batches) (files []iceberg.DataFile, err error) {
	first := true
	err = sorted.Parts(ctx, s.Merging(), s.sorting(rows, s.keys(s.def.Stored)), func(rows sorted.Batches) error {
		part, err := s.Write(ctx, rows)
		if err != nil || first {
			files, first = part, false
			return err
		}
		add, gone, err := s.Dedup(ctx, s.Written(files), part)
		files = append(excludeFiles(files, gone), add...)
		return err
	})
	if err == nil && s.Rule == definition.RefuseDuplicate {
		err = s.Refuse(ctx, nil, files)
	}
	return files, err
}

// Write writes sorted rows as data files. The table's settings decide where a file ends.
func (s *Series) Write(ctx context.Context, rows sorted.Batches) ([]iceberg.DataFile, error) {
	// Iceberg's library would sort each batch again, and change the order of rows with equal keys.
	meta, err := table.UpdateTableMetadata(s.table.Metadata(), definition.Unsorted(), "")
	if err != nil {
		return nil, err
	}
	fs, err := s.table.FS(ctx)
	if err != nil {
		return nil, err
	}
	plain := table.New(s.table.Identifier(), meta, "", func(context.Context) (iceio.IO, error) { return fs, nil }, nil)
	cut, err := s.NewCut(ctx)
	if err != nil {
		return nil, err
	}
	next, stop := iter.Pull2(rows)
	defer stop()
	p := &periods{cut: cut, next: next}
	defer func() {
		if p.rest != nil {
			p.rest.Release()
		}
	}()
	var files []iceberg.DataFile
	for p.begin() {
		part, err := datafile.Write(ctx, plain, s.def.Stored, func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range p.batches {
				if err == nil {
					same := array.NewRecordBatch(s.def.Stored, b.Columns(), b.NumRows())
					b.Release()
					b = same
				}
				if !yield(b, err) {
					return
				}
			}
		}, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, part...)
	}
	if p.err != nil {
		return nil, p.err
	}
	return s.withSortOrder(files)
}

// Rewrite merges the rows of files by a rule, and writes them as files of another Series. If change
// is not nil, Rewrite applies it to the rows of each file first.
func (s *Series) Rewrite(ctx context.Context, files []*File, to *Series, rule sorted.Rule, change func(sorted.Batches) sorted.Batches) ([]iceberg.DataFile, error) {
	p := s.project(nil)
	var sources []sorted.Source
	for _, f := range files {
		src := s.source(ctx, f, p, nil)
		if change != nil {
			src.Batches = change(src.Batches)
		}
		sources = append(sources, src)
	}
	return to.Write(ctx, s.merge(ctx, rule, sources...))
}

// periods splits sorted rows into periods of time. The length of automatic periods depends on the
// table's rows and the rows read so far, so later periods may be longer.
type periods struct {
	cut  *Cut
	next func() (arrow.RecordBatch, error, bool)
	rest arrow.RecordBatch // rows not yielded yet; nil: none
	end  int64             // end of the current period
	err  error
}

// begin moves to the next period, and reports whether there is one.
func (p *periods) begin() bool {
	if !p.fill() {
		return false
	}
	if p.cut == nil {
		p.end = math.MaxInt64
		return true
	}
	v := TimeAt(p.rest.Column(p.cut.column), 0)
	if v > math.MinInt64 {
		p.cut.see(v)
	}
	p.end = p.cut.end(v)
	return true
}

// fill loads rest if it is empty, and reports whether there are rows.
func (p *periods) fill() bool {
	for p.rest == nil && p.err == nil {
		b, err, ok := p.next()
		if !ok {
			return false
		}
		if p.err = err; err == nil && b.NumRows() > 0 {
			p.rest = b
		} else if b != nil {
			b.Release()
		}
	}
	return p.err == nil
}

// batches yields the rows of the current period.
func (p *periods) batches(yield func(arrow.RecordBatch, error) bool) {
	for p.fill() {
		rows := int(p.rest.NumRows())
		n := rows
		if p.end < math.MaxInt64 {
			times := p.rest.Column(p.cut.column)
			n = sort.Search(rows, func(i int) bool { return TimeAt(times, i) >= p.end })
		}
		if n == 0 {
			return
		}
		whole := p.rest
		if p.rest = nil; n < rows {
			p.rest = whole.NewSlice(int64(n), int64(rows))
		}
		part := whole.NewSlice(0, int64(n))
		whole.Release()
		if !yield(part, nil) {
			return
		}
	}
	if p.err != nil {
		yield(nil, p.err)
	}
}

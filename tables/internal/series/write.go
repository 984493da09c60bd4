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

// WriteSorted sorts rows and writes them as data files. It removes or rejects duplicates according to the table's rule.
func (s *Series) WriteSorted(ctx context.Context, rows sorted.Batches) (files []iceberg.DataFile, err error) {
	isFirst := true
	err = sorted.Parts(ctx, s.Merging(), s.sortInput(rows, s.keys(s.def.Stored)), func(rows sorted.Batches) error {
		written, err := s.Write(ctx, rows)
		if err != nil || isFirst {
			files, isFirst = written, false
			return err
		}
		add, replaced, err := s.Dedup(ctx, s.Written(files), written)
		files = append(excludeFiles(files, replaced), add...)
		return err
	})
	if err == nil && s.Rule == definition.RefuseDuplicate {
		err = s.RejectDuplicates(ctx, nil, files)
	}
	return files, err
}

// Write writes sorted rows as data files. The table's settings determine where a file ends.
func (s *Series) Write(ctx context.Context, rows sorted.Batches) ([]iceberg.DataFile, error) {
	// Remove the sort order from the metadata: because of it, Iceberg's library would sort each batch again, and change
	// the order of rows with equal keys.
	meta, err := table.UpdateTableMetadata(s.table.Metadata(), definition.RemoveSortOrder(), "")
	if err != nil {
		return nil, err
	}
	fs, err := s.table.FS(ctx)
	if err != nil {
		return nil, err
	}
	unsortedTable := table.New(s.table.Identifier(), meta, "", func(context.Context) (iceio.IO, error) { return fs, nil }, nil)
	cutter, err := s.NewCutter(ctx)
	if err != nil {
		return nil, err
	}
	next, stop := iter.Pull2(rows)
	defer stop()
	p := &periods{cutter: cutter, next: next}
	defer func() {
		if p.remaining != nil {
			p.remaining.Release()
		}
	}()
	var files []iceberg.DataFile
	for p.nextPeriod() {
		written, err := datafile.Write(ctx, unsortedTable, s.def.Stored, func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range p.batches {
				if err == nil {
					stored := array.NewRecordBatch(s.def.Stored, b.Columns(), b.NumRows())
					b.Release()
					b = stored
				}
				if !yield(b, err) {
					return
				}
			}
		}, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, written...)
	}
	if p.err != nil {
		return nil, p.err
	}
	return s.withSortOrder(files)
}

// Rewrite merges the rows of files by a rule, and writes them as files of dest. If change is not nil, each file's rows pass
// through it before the merge.
func (s *Series) Rewrite(ctx context.Context, files []*File, dest *Series, rule sorted.Rule, change func(sorted.Batches) sorted.Batches) ([]iceberg.DataFile, error) {
	p := s.project(nil)
	var sources []sorted.Source
	for _, f := range files {
		src := s.source(ctx, f, p, nil)
		if change != nil {
			src.Batches = change(src.Batches)
		}
		sources = append(sources, src)
	}
	return dest.Write(ctx, s.merge(ctx, rule, sources...))
}

// periods divides sorted rows at the ends of periods. Later automatic periods can be longer, because their length depends on
// the rows read so far.
type periods struct {
	cutter    *Cutter
	next      func() (arrow.RecordBatch, error, bool)
	remaining arrow.RecordBatch // rows that are not yielded yet; nil if there are none
	end       int64             // end of the current period
	err       error
}

func (p *periods) nextPeriod() bool {
	if !p.fill() {
		return false
	}
	if p.cutter == nil {
		p.end = math.MaxInt64
		return true
	}
	v := TimeAt(p.remaining.Column(p.cutter.column), 0)
	if v > math.MinInt64 {
		p.cutter.include(v)
	}
	p.end = p.cutter.periodEnd(v)
	return true
}

// fill loads remaining if it is nil, and reports whether there are rows.
func (p *periods) fill() bool {
	for p.remaining == nil && p.err == nil {
		b, err, ok := p.next()
		if !ok {
			return false
		}
		if p.err = err; err == nil && b.NumRows() > 0 {
			p.remaining = b
		} else if b != nil {
			b.Release()
		}
	}
	return p.err == nil
}

func (p *periods) batches(yield func(arrow.RecordBatch, error) bool) {
	for p.fill() {
		rows := int(p.remaining.NumRows())
		n := rows
		if p.end < math.MaxInt64 {
			times := p.remaining.Column(p.cutter.column)
			n = sort.Search(rows, func(i int) bool { return TimeAt(times, i) >= p.end })
		}
		if n == 0 {
			return
		}
		current := p.remaining
		if p.remaining = nil; n < rows {
			p.remaining = current.NewSlice(int64(n), int64(rows))
		}
		head := current.NewSlice(0, int64(n))
		current.Release()
		if !yield(head, nil) {
			return
		}
	}
	if p.err != nil {
		yield(nil, p.err)
	}
}

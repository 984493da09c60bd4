package series

import (
	"context"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// WriteSorted writes rows as data files in order, without the duplicates among them that
// the rule leaves out or refuses.
func (s *Series) WriteSorted(ctx context.Context, rows sorted.Batches) (files []iceberg.DataFile, err error) {
	first := true
	err = sorted.Parts(ctx, s.Merging(), s.sorting(rows, s.keys(s.def.Stored)), func(rows sorted.Batches) error {
		part, err := s.Write(ctx, rows)
		if err != nil || first {
			files, first = part, false
			return err
		}
		add, gone, err := s.Dedup(ctx, s.Written(files), part)
		files = append(without(files, gone), add...)
		return err
	})
	if err == nil && s.Rule == definition.RefuseDuplicate {
		err = s.Refuse(ctx, nil, files)
	}
	return files, err
}

// Write writes rows that are in order as data files, cut as the table's settings say.
func (s *Series) Write(ctx context.Context, rows sorted.Batches) ([]iceberg.DataFile, error) {
	// Iceberg's library would sort each batch anew, and not keep equal rows in their order.
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
	return s.marked(files)
}

// Rewrite writes the rows of files through a table, merged by a rule, once each batch was
// changed; change may be nil.
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

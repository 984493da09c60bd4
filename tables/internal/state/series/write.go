package series

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// WriteSorted sorts rows and writes them as data files. It removes or rejects duplicates according to the table's rule.
// acknowledged means that the rows' puts have already succeeded, so duplicates must not be rejected.
func (s *Series) WriteSorted(ctx context.Context, rows batches.Seq, acknowledged bool) (files []iceberg.DataFile, err error) {
	isFirst := true
	err = sorted.Parts(ctx, s.Merging(), s.sortInput(rows, s.keys(s.def.Stored)), func(rows batches.Seq) error {
		written, err := s.Write(ctx, rows)
		if err != nil || isFirst {
			files, isFirst = written, false
			return err
		}
		add, replaced, err := s.Dedup(ctx, s.Written(files), written)
		files = append(excludeFiles(files, replaced), add...)
		return err
	})
	if err == nil && s.Rule == definition.RefuseDuplicate && !acknowledged {
		err = s.RejectDuplicates(ctx, nil, files)
	}
	return files, err
}

// Write writes sorted rows as data files. The table's settings determine where a file ends.
func (s *Series) Write(ctx context.Context, rows batches.Seq) ([]iceberg.DataFile, error) {
	// Remove the sort order from the metadata: otherwise, iceberg-go would sort each batch again and change the order
	// of rows with equal keys.
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
	withStoredSchema := batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		defer b.Release()
		return array.NewRecordBatch(s.def.Stored, b.Columns(), b.NumRows()), nil
	})
	parts := batches.NewSplitter(withStoredSchema(rows))
	defer parts.Close()
	var files []iceberg.DataFile
	for {
		first, err := parts.Peek()
		if err != nil {
			return nil, err
		}
		if first == nil {
			return s.withSortOrder(files)
		}
		written, err := datafile.Write(ctx, unsortedTable, s.def.Stored, parts.Part(cutter.nextPeriod(first)), 0)
		if err != nil {
			return nil, err
		}
		files = append(files, written...)
	}
}

// Rewrite merges the rows of files by a rule and writes them as files of dest. If change is not nil, each file's rows
// pass through it before the merge.
func (s *Series) Rewrite(ctx context.Context, files []*File, dest *Series, rule sorted.Rule, change func(batches.Seq) batches.Seq) ([]iceberg.DataFile, error) {
	s, dest = s.withLineage(), dest.withLineage()
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

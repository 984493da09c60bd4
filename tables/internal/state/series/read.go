package series

import (
	"context"
	"encoding/binary"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

const (
	// maxOpenBytes is the largest estimate for an open file's memory. It suffices for one row group.
	maxOpenBytes = 64 << 20
	minOpenBytes = 256 << 10 // smallest estimate for an open file's memory
	minBatchRows = 1 << 8    // minimum rows per batch, even if the consumer needs fewer, because a merge can drop rows
)

// source returns a file's rows as a source for a merge. It sorts them if they are not in the table's order.
func (s *Series) source(ctx context.Context, f *File, p *projection, where *filter.Condition) sorted.Source {
	size := f.Data().FileSizeBytes()
	perRow := max(1, 8*size/max(1, f.Data().Count()))
	cost := max(min(8*size, maxOpenBytes), minOpenBytes)
	rows := func(yield func(arrow.RecordBatch, error) bool) {
		scan, err := datafile.NewScan(ctx, s.table, s.def.Columns, p.names, where)
		if err != nil {
			yield(nil, err)
			return
		}
		scan.Rows = min(max(8<<20/perRow, 1<<10), datafile.BatchRows)
		if p.neededRows > 0 {
			scan.Rows = min(scan.Rows, max(p.neededRows, minBatchRows))
		}
		scan.Recycle = p.recycle
		if p.readAhead {
			scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), cost/2
		}
		scan.Read(ctx, f.Deleted.Hide(datafile.ToRead(s.table, []table.FileScanTask{f.Task})))(yield)
	}
	src := sorted.Source{Batches: rows, Keys: p.keys, Bounds: f.Bounds, Cost: cost}
	if !s.InOrder(f.Data()) { // another program wrote the file, or it was written before the order was set
		src.Batches = sorted.Sort(ctx, sorted.All, s.sortInput(rows, p.keys))
	}
	return src
}

// tail returns batch, which contains sorted rows from the tail (rows not in files yet), as a source for a merge.
func (s *Series) tail(batch arrow.RecordBatch, keys []int) sorted.Source {
	return sorted.Source{Keys: keys, Bounds: s.BatchBounds(batch), Batches: batches.From(batch)}
}

// DedupTail joins and sorts the tail (rows not in files yet). Then it applies the table's rule for duplicates. For
// KeepFirst, it also removes rows that are already in files. replaces reports whether the remaining rows can replace
// rows in files.
func (s *Series) DedupTail(ctx context.Context, rows []arrow.RecordBatch) (_ arrow.RecordBatch, replaces bool, err error) {
	keys := s.keys(rows[0].Schema())
	block, err := sorted.Block(rows, keys)
	if err == nil && s.Merging() != sorted.All {
		defer block.Release()
		block, err = batches.Join(sorted.Merge(ctx, s.Merging(), 0, s.tail(block, keys)), block)
	}
	if err != nil {
		return nil, false, err
	}
	bounds := s.BatchBounds(block)
	files, err := s.Files(ctx)
	overlapping := OverlappingFiles(files, []*File{{Bounds: bounds}})
	if err == nil && (len(overlapping) == 0 || s.Rule != definition.KeepFirst) {
		return block, len(overlapping) > 0 && s.Rule == definition.KeepLast, nil
	}
	defer block.Release()
	if err != nil {
		return nil, false, err
	}
	sources, err := s.keySources(ctx, overlapping, bounds, true)
	if err != nil {
		return nil, false, err
	}
	remaining, err := batches.Join(s.merge(ctx, sorted.First, append(sources, s.tail(block, keys))...), block)
	return remaining, false, err
}

// keySources returns the key columns of files' rows within bounds, as sources for a merge. If hide is true, the merge
// applies its rule to these rows but does not output them.
func (s *Series) keySources(ctx context.Context, files []*File, bounds *sorted.Bounds, hide bool) ([]sorted.Source, error) {
	p := s.project(s.Names)
	var where *filter.Condition
	timeFilter, err := s.boundsFilter(bounds, p.fields)
	if err == nil && timeFilter != nil {
		where, err = timeFilter.Bind(p.fields)
	}
	if err != nil {
		return nil, err
	}
	var sources []sorted.Source
	for _, f := range files {
		src := s.source(ctx, f, p, where)
		src.Hides = hide
		sources = append(sources, src)
	}
	return sources, nil
}

// Scan yields the named columns of the rows that can match where, which can be nil. It merges the files with the tail
// (rows not in files yet); tail and replaces must come from DedupTail. neededRows limits how far Scan reads ahead; -1
// means that all rows may be needed. If recycle is true, Scan reuses the memory of released batches.
func (s *Series) Scan(ctx context.Context, names []string, where *filter.Condition, tail []arrow.RecordBatch, replaces bool, neededRows int64, recycle bool) (batches.Seq, error) {
	p := s.project(names)
	p.readAhead, p.neededRows, p.recycle = neededRows < 0, max(neededRows, 0), recycle
	files, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	var sources []sorted.Source
	for _, f := range files {
		if datafile.MayMatch(where, s.def.Columns, f.Data()) {
			sources = append(sources, s.source(ctx, f, p, where))
		}
	}
	for _, b := range tail {
		if slice := s.trimTail(b, where); slice.NumRows() > 0 {
			sources = append(sources, sorted.Source{Keys: p.keys, Bounds: s.BatchBounds(slice), Batches: func(yield func(arrow.RecordBatch, error) bool) { yield(schema.Project(slice, p.fields), nil) }})
		}
	}
	rule := sorted.All
	if replaces {
		rule = s.Merging()
	}
	return s.merge(ctx, rule, sources...), nil
}

const trimBlockRows = 1 << 12

// trimTail drops blocks of trimBlockRows rows at both ends of tail if none of their rows can match where, according to
// their times.
func (s *Series) trimTail(tail arrow.RecordBatch, where *filter.Condition) arrow.RecordBatch {
	rows := tail.NumRows()
	if where == nil || s.BatchBounds(tail) == nil {
		return tail
	}
	times := tail.Column(tail.Schema().FieldIndices(s.Names[0])[0])
	timeBytes := func(row int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(TimeAt(times, int(row)))) }
	mayMatch := func(start int64) bool {
		matches, _ := where.May(func(name string) filter.Bounds {
			if name == s.Names[0] {
				return filter.Bounds{Rows: trimBlockRows, Min: timeBytes(start), Max: timeBytes(min(start+trimBlockRows, rows) - 1)}
			}
			return filter.Bounds{Rows: trimBlockRows, Nulls: -1}
		})
		return matches
	}
	start, end := int64(0), (rows+trimBlockRows-1)/trimBlockRows*trimBlockRows
	for start < end && !mayMatch(start) {
		start += trimBlockRows
	}
	for start < end && !mayMatch(end-trimBlockRows) {
		end -= trimBlockRows
	}
	return tail.NewSlice(min(start, rows), min(end, rows))
}

package series

import (
	"context"
	"encoding/binary"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

const (
	// maxOpen is the largest memory estimate for an open file, enough for one row group.
	maxOpen = 64 << 20
	minOpen = 256 << 10 // the smallest memory estimate for an open file
	fewRows = 1 << 8    // minimum rows of a batch if the reader needs few, because rows of other sources may precede or replace them
)

// source returns a file's rows as a source for a merge. It sorts a file that is not in the table's
// order.
func (s *Series) source(ctx context.Context, f *File, p *projection, where *filter.Condition) sorted.Source {
	size := f.Data().FileSizeBytes()
	perRow := max(1, 8*size/max(1, f.Data().Count()))
	cost := max(min(8*size, maxOpen), minOpen)
	rows := func(yield func(arrow.RecordBatch, error) bool) {
		scan, err := datafile.NewScan(ctx, s.table, s.def.Columns, p.names, where)
		if err != nil {
			yield(nil, err)
			return
		}
		scan.Rows = min(max(8<<20/perRow, 1<<10), datafile.BatchRows)
		if p.few > 0 {
			scan.Rows = min(scan.Rows, max(p.few, fewRows))
		}
		scan.Recycle = p.recycle
		if p.ahead {
			scan.Workers, scan.Memory = runtime.GOMAXPROCS(0), cost/2
		}
		scan.Read(ctx, datafile.ToRead(s.table, []table.FileScanTask{f.Task}))(yield)
	}
	src := sorted.Source{Batches: rows, Keys: p.keys, Bounds: f.Bounds, Cost: cost}
	if !s.InOrder(f.Data()) { // written by another program, or before the order was set
		src.Batches = sorted.Sort(ctx, sorted.All, s.sorting(rows, p.keys))
	}
	return src
}

// tail returns rows of the tail or of a put as a source for a merge. They must be sorted.
func (s *Series) tail(batch arrow.RecordBatch, keys []int) sorted.Source {
	return sorted.Source{Keys: keys, Bounds: s.BatchBounds(batch), Batches: sorted.Only(batch)}
}

// SortRows sorts a batch of stored rows, and applies the table's rule for duplicates. It takes
// ownership of the batch.
func (s *Series) SortRows(ctx context.Context, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	keys := s.keys(batch.Schema())
	one, err := sorted.Block([]arrow.RecordBatch{batch}, keys)
	batch.Release()
	if err != nil || s.Merging() == sorted.All {
		return one, err
	}
	defer one.Release()
	return collect(sorted.Merge(ctx, s.Merging(), 0, s.tail(one, keys)), one)
}

// collect joins a small number of rows into one batch with the schema of like.
func collect(rows sorted.Batches, like arrow.RecordBatch) (arrow.RecordBatch, error) {
	all := []arrow.RecordBatch{like.NewSlice(0, 0)}
	defer func() { take.Release(all) }()
	for b, err := range rows {
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return sorted.Block(all, nil)
}

// DedupTail sorts the tail's rows, and applies the table's rule for duplicates within the tail. For
// KeepFirst, it also removes rows that duplicate rows in files. It takes ownership of the rows.
// replaces reports whether the remaining rows may replace rows in files.
func (s *Series) DedupTail(ctx context.Context, rows arrow.RecordBatch) (_ arrow.RecordBatch, replaces bool, err error) {
	one, err := s.SortRows(ctx, rows)
	if err != nil {
		return nil, false, err
	}
	bounds := s.BatchBounds(one)
	over, err := s.Overlapping(ctx, bounds)
	if err == nil && (len(over) == 0 || s.Rule != definition.KeepFirst) {
		return one, len(over) > 0 && s.Rule == definition.KeepLast, nil
	}
	defer one.Release()
	if err != nil {
		return nil, false, err
	}
	sources, err := s.shadowing(ctx, over, bounds, true)
	if err != nil {
		return nil, false, err
	}
	left, err := collect(s.merge(ctx, sorted.First, append(sources, s.tail(one, s.keys(one.Schema())))...), one)
	return left, false, err
}

// shadowing returns sources with only the key columns of files, for rows within bounds. If hide is
// true, the merge does not yield these rows, but its rule counts them.
func (s *Series) shadowing(ctx context.Context, files []*File, bounds *sorted.Bounds, hide bool) ([]sorted.Source, error) {
	p := s.project(s.Names)
	var where *filter.Condition
	only, err := s.within(bounds, p.fields)
	if err == nil && only != nil {
		where, err = only.Bind(p.fields)
	}
	if err != nil {
		return nil, err
	}
	var all []sorted.Source
	for _, f := range files {
		src := s.source(ctx, f, p, where)
		src.Hides = hide
		all = append(all, src)
	}
	return all, nil
}

// Scan yields columns of the rows that may match a condition, which may be nil. It merges the files
// with the tail's rows. DedupTail must have returned tail and replaces. few is the number of rows
// that the reader may need, which limits reading ahead; -1 means all rows. If recycle is true, the
// memory of released batches is reused.
func (s *Series) Scan(ctx context.Context, names []string, where *filter.Condition, tail []arrow.RecordBatch, replaces bool, few int64, recycle bool) (sorted.Batches, error) {
	p := s.project(names)
	p.ahead, p.few, p.recycle = few < 0, max(few, 0), recycle
	files, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	var sources []sorted.Source
	for _, f := range files {
		if datafile.MayHold(where, s.def.Columns, f.Data()) {
			sources = append(sources, s.source(ctx, f, p, where))
		}
	}
	for _, b := range tail {
		if part := s.mayHold(b, where); part.NumRows() > 0 {
			sources = append(sources, sorted.Source{Keys: p.keys, Bounds: s.BatchBounds(part), Batches: func(yield func(arrow.RecordBatch, error) bool) { yield(p.of(part), nil) }})
		}
	}
	rule := sorted.All
	if replaces {
		rule = s.Merging()
	}
	return s.merge(ctx, rule, sources...), nil
}

// partRows is the number of tail rows that mayHold checks at a time.
const partRows = 1 << 12

// mayHold returns a slice of the sorted tail with all rows that may match a condition. It looks
// only at the times, and cuts off whole parts of partRows rows at both ends.
func (s *Series) mayHold(tail arrow.RecordBatch, where *filter.Condition) arrow.RecordBatch {
	rows := tail.NumRows()
	if where == nil || s.BatchBounds(tail) == nil {
		return tail
	}
	times := tail.Column(tail.Schema().FieldIndices(s.Names[0])[0])
	at := func(row int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(TimeAt(times, int(row)))) }
	may := func(from int64) bool {
		some, _ := where.May(func(name string) filter.Bounds {
			if name == s.Names[0] {
				return filter.Bounds{Rows: partRows, Min: at(from), Max: at(min(from+partRows, rows) - 1)}
			}
			return filter.Bounds{Rows: partRows, Nulls: -1}
		})
		return some
	}
	first, end := int64(0), (rows+partRows-1)/partRows*partRows
	for first < end && !may(first) {
		first += partRows
	}
	for first < end && !may(end-partRows) {
		end -= partRows
	}
	return tail.NewSlice(min(first, rows), min(end, rows))
}

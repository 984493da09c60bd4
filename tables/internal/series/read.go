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
	// mostOpen is what a large file takes while it is read: a group of its rows.
	mostOpen  = 64 << 20
	leastOpen = 256 << 10 // and a small one
	fewRows   = 1 << 8    // are read together where few are wanted: others may come before them, or take their place
)

// source reads a file.
func (s *Series) source(ctx context.Context, f *File, p *projection, where *filter.Condition) sorted.Source {
	size := f.Data().FileSizeBytes()
	perRow := max(1, 8*size/max(1, f.Data().Count()))
	cost := max(min(8*size, mostOpen), leastOpen)
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
	if !s.InOrder(f.Data()) { // somebody else's, or older than the order
		src.Batches = sorted.Sort(ctx, sorted.All, s.sorting(rows, p.keys))
	}
	return src
}

// tail is rows of the tail, or of a put, in order.
func (s *Series) tail(batch arrow.RecordBatch, keys []int) sorted.Source {
	return sorted.Source{Keys: keys, Bounds: s.BatchBounds(batch), Batches: sorted.Only(batch)}
}

// SortRows sorts a batch of rows as they are stored, and leaves out what the rule does. It
// takes the batch over.
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

// collect makes one batch of rows that are few. Like has their schema.
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

// DedupTail sorts the rows of the tail, which it takes over, and leaves out those that
// the rule does, as far as the tail and, by KeepFirst, the files say. It reports whether
// rows that are left may take the place of some in files.
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

// shadowing returns the keys of files, as far as they are within bounds: those that hide
// rows of other sources with them, if they do.
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

// Scan yields columns of the rows for which a condition, which may be nil, may hold: those
// of the files, and among them those of the tail, as DedupTail left them. Whoever wants
// few of them, so many, lets no more be read ahead; -1 is all. With recycle the memory of
// batches that were released is used again.
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

// partRows is how many rows of the tail are looked at together.
const partRows = 1 << 12

// mayHold returns the rows of the tail, which are in order, from the first part to the last
// for which a condition may hold, by their times.
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
				return filter.Bounds{Rows: partRows, Least: at(from), Most: at(min(from+partRows, rows) - 1)}
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

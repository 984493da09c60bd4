package difftest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

func rowTexts(rows []row, columns []string) []string {
	all := make([]string, len(rows))
	for i, r := range rows {
		all[i] = rowKey(r, columns)
	}
	return all
}

func columnNames(cols []*column) []string {
	all := make([]string, len(cols))
	for i, c := range cols {
		all[i] = c.name
	}
	return all
}

// readAll reads all rows of a reader. If columns is not nil, the reader must have these columns.
func readAll(r array.RecordReader, err error, columns []string) (all []string, _ error) {
	if err != nil {
		return nil, err
	}
	defer r.Release()
	var got []string
	for _, f := range r.Schema().Fields() {
		got = append(got, f.Name)
	}
	if columns != nil && !slices.Equal(got, columns) {
		return nil, fmt.Errorf("got columns %q, want %q", got, columns)
	}
	for r.Next() {
		batch := r.RecordBatch()
		for i := range int(batch.NumRows()) {
			var b strings.Builder
			for _, c := range batch.Columns() {
				b.WriteString(canonicalText(readValue(c, i)) + "|")
			}
			all = append(all, b.String())
		}
	}
	return all, r.Err()
}

// compareRows returns an error if got and want contain different rows. If ordered is false, it ignores their order.
func (d *run) compareRows(got, want []string, ordered bool) error {
	d.counts.Comparisons++
	if !ordered {
		got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	}
	if slices.Equal(got, want) {
		return nil
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	show := func(rows []string) string {
		return fmt.Sprintf("%.600s", strings.Join(rows[i:min(len(rows), i+3)], "\n     "))
	}
	return fmt.Errorf("got %d rows, want %d; from row %d on\n got %s\nwant %s", len(got), len(want), i+1, show(got), show(want))
}

// check compares random reads with the model, after a step.
func (d *run) check(r *rand.Rand) error {
	if err := d.checkAllRows(); err != nil {
		return err
	}
	for range 5 {
		var description string
		var err error
		switch r.IntN(11) {
		case 0, 1, 2:
			description, err = d.checkScan(r, d.state, nil, true)
		case 3:
			description, err = d.checkParts(r)
		case 4:
			description, err = d.checkEnds(r)
		case 5, 6:
			description, err = d.checkQuery(r)
		case 9, 10:
			description, err = d.checkPartition(r)
		case 7:
			if all := sortedKeys(d.versions); len(all) > 0 {
				v := pick(r, all...)
				description, err = d.checkScan(r, d.versions[v], tables.AtVersion(v), false)
				description = fmt.Sprint("at version ", v, ": ", description)
			}
		case 8:
			if all := sortedKeys(d.snapshots); len(all) > 0 {
				s := pick(r, all...)
				description, err = d.checkScan(r, d.snapshots[s], tables.AtSnapshot(s), false)
				description = fmt.Sprint("in snapshot ", s, ": ", description)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", description, err)
		}
	}
	return nil
}

func sortedKeys[K interface{ ~int64 | ~string }, V any](m map[K]V) (all []K) {
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// checkAllRows compares all rows with the model, and gives the model's rows the order in which they were read.
func (d *run) checkAllRows() error {
	t := d.bucket.Table("t")
	columns := columnNames(d.cols)
	r, err := t.Scan(d.ctx, nil)
	got, err := readAll(r, err, columns)
	if err == nil {
		err = d.compareRows(got, rowTexts(d.rows, columns), d.inArrivalOrder && d.settings.Time == "")
	}
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	position := map[string]int{}
	for i, text := range got {
		position[text] = i
	}
	d.rows = slices.SortedStableFunc(slices.Values(d.rows), func(a, b row) int { return position[rowKey(a, columns)] - position[rowKey(b, columns)] })
	if timeColumn := d.settings.Time; timeColumn != "" && !slices.IsSortedFunc(d.rows, func(a, b row) int { return a[timeColumn].(*big.Rat).Cmp(b[timeColumn].(*big.Rat)) }) {
		return errors.New("get: the rows are not ordered by time")
	}
	vs, err := t.Versions(d.ctx)
	if len(vs) > 0 && vs[len(vs)-1].Version > d.newest { // record a new version; its columns are the current ones
		if d.newest = vs[len(vs)-1].Version; !d.inTail {
			d.versions[d.newest] = d.state
		}
	}
	return err
}

func randomProjection(r *rand.Rand, cols []*column) []string {
	all := columnNames(cols)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+r.IntN(len(all))]
}

// randomOptions returns the options of a random scan, and the rows that the scan should yield.
func (d *run) randomOptions(r *rand.Rand, s state) (o *tables.ScanOptions, columns []string, want []row, flags string, err error) {
	o, columns, want = &tables.ScanOptions{ChunkRows: pick[int64](r, 0, 0, 1, 7)}, columnNames(s.cols), s.rows
	if r.IntN(4) > 0 {
		columns = randomProjection(r, s.cols)
		o.Columns = columns
		flags += fmt.Sprintf(" --columns %q", columns)
	}
	if r.IntN(5) > 0 {
		c := randomCond(r, s.cols, s.rows, 2)
		flags += " --where " + c.String()
		if o.Filter, err = filter.Parse(c.String()); err != nil {
			return o, nil, nil, flags, err
		}
		want = slices.DeleteFunc(slices.Clone(want), func(r row) bool { return c.eval(r) != yes })
	}
	name, from, to := d.randomRange(r)
	hasTimes := slices.ContainsFunc(s.cols, func(c *column) bool { return c.name == name && canOrder(c.typ, true) }) // the state can have a column of this name with another type
	if name != "" && len(s.rows) == len(d.rows) && r.IntN(3) == 0 && hasTimes {
		o.TimeColumn, o.From, o.To = name, from, to
		flags += fmt.Sprintf(" --time-column %q --from %s --to %s", name, from, to)
		want = slices.DeleteFunc(slices.Clone(want), func(r row) bool { return !isWithin(r[name], from, to) && !(from.IsZero() && to.IsZero()) })
	}
	return o, columns, want, flags, nil
}

// checkScan compares a random scan with the state's rows. If ordered is true, their order must also be equal.
func (d *run) checkScan(r *rand.Rand, s state, version tables.At, ordered bool) (string, error) {
	o, columns, want, flags, err := d.randomOptions(r, s)
	if err != nil {
		return flags, err
	}
	switch n := 1 + r.IntN(8); {
	case !ordered:
	case r.IntN(4) == 0:
		o.Limit, want = int64(n), want[:min(n, len(want))]
		flags += fmt.Sprint(" --limit ", n)
	case r.IntN(4) == 0:
		o.Last, want = int64(n), want[max(0, len(want)-n):]
		flags += fmt.Sprint(" last ", n)
	}
	t, err := d.bucket.Table("t").At(d.ctx, version)
	if err != nil {
		return flags, err
	}
	reader, err := t.Scan(d.ctx, o)
	got, err := readAll(reader, err, columns)
	if err == nil {
		err = d.compareRows(got, rowTexts(want, columns), ordered)
	}
	return "get" + flags, err
}

func (d *run) checkParts(r *rand.Rand) (string, error) {
	o, columns, want, flags, err := d.randomOptions(r, d.state)
	if err != nil {
		return flags, err
	}
	if !o.From.IsZero() || !o.To.IsZero() {
		return flags, nil // parts do not support ranges
	}
	t := d.bucket.Table("t")
	n, err := t.Parts(d.ctx)
	var all []string
	for o.Part = 1; err == nil && o.Part <= int64(n); o.Part++ {
		var got []string
		reader, scanErr := t.Scan(d.ctx, o)
		got, err = readAll(reader, scanErr, columns)
		all = append(all, got...)
	}
	if err == nil {
		var partsAfter int
		if partsAfter, err = t.Parts(d.ctx); err == nil && partsAfter != n { // a fold has changed the number of parts in the meantime
			return d.checkParts(r)
		}
	}
	if err == nil {
		err = d.compareRows(all, rowTexts(want, columns), false)
	}
	return fmt.Sprintf("%d parts%s", n, flags), err
}

func (d *run) checkEnds(r *rand.Rand) (string, error) {
	t := d.bucket.Table("t")
	columns, n := columnNames(d.cols), 1+r.IntN(9)
	all := rowTexts(d.rows, columns)
	for _, end := range []struct {
		name string
		read func() (array.RecordReader, error)
		want []string
	}{
		{fmt.Sprint("head ", n), func() (array.RecordReader, error) { return t.Scan(d.ctx, &tables.ScanOptions{Limit: int64(n)}) }, all[:min(n, len(all))]},
		{fmt.Sprint("tail ", n), func() (array.RecordReader, error) { return t.Scan(d.ctx, &tables.ScanOptions{Last: int64(n)}) }, all[max(0, len(all)-n):]},
		{"last", func() (array.RecordReader, error) { return t.Scan(d.ctx, &tables.ScanOptions{Last: 1}) }, all[max(0, len(all)-1):]},
	} {
		reader, err := end.read()
		got, err := readAll(reader, err, columns)
		if err == nil {
			err = d.compareRows(got, end.want, true)
		}
		if err != nil {
			return end.name, err
		}
	}
	return "", nil
}

func (d *run) checkQuery(r *rand.Rand) (string, error) {
	losesNanoseconds := func(c *column) bool { // SQL has only microseconds in nested columns
		return arrow.IsNested(c.typ.ID()) && strings.Contains(c.typ.String(), "timestamp[ns, tz=")
	}
	columns, want, text := randomProjection(r, slices.DeleteFunc(slices.Clone(d.cols), losesNanoseconds)), d.rows, ""
	for range 5 { // try again until SQL can express the condition
		if c := randomCond(r, d.cols, d.rows, 1); c.sql() != "" {
			text = " WHERE " + c.sql()
			want = slices.DeleteFunc(slices.Clone(want), func(r row) bool { return c.eval(r) != yes })
			break
		}
	}
	quotes := make([]string, len(columns))
	for i, name := range columns {
		quotes[i] = quoteName(name)
	}
	text = "SELECT " + strings.Join(quotes, ", ") + " FROM t" + text
	want = slices.Clone(want)
	for i, values := range want {
		want[i] = maps.Clone(values)
		for _, c := range d.cols {
			want[i][c.name] = sqlValue(c.typ, values[c.name])
		}
	}
	reader, err := d.store.Query(d.ctx, text, &tables.QueryOptions{Bucket: "b", Nanoseconds: true})
	if errors.Is(err, errors.ErrUnsupported) {
		return text, nil
	}
	got, err := readAll(reader, err, columns)
	if err == nil {
		err = d.compareRows(got, rowTexts(want, columns), false)
	}
	return text, err
}

// sqlValue returns a value of a column as SQL returns it, with UUIDs as texts.
func sqlValue(t arrow.DataType, v any) any {
	if _, ok := t.(*extensions.UUIDType); ok && v != nil {
		b := v.([]byte)
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	}
	list, ok := v.([]any)
	if !ok {
		return v
	}
	converted := make([]any, len(list))
	for i, child := range list {
		childType := t
		switch t := t.(type) {
		case *arrow.StructType:
			childType = t.Field(i).Type
		case *arrow.MapType:
			childType = []arrow.DataType{t.KeyType(), t.ItemType()}[i%2]
		case arrow.ListLikeType:
			childType = t.Elem()
		}
		converted[i] = sqlValue(childType, child)
	}
	return converted
}

func (d *run) checkFiles() error {
	var findings bytes.Buffer
	_, err := d.store.Verify(d.ctx, &tables.VerifyOptions{Report: func(f tables.Finding) { fmt.Fprintf(&findings, "\n%+v", f) }})
	if err == nil && findings.Len() > 0 {
		err = errors.New(findings.String())
	}
	if err != nil {
		err = fmt.Errorf("verify: %w", err)
	}
	return err
}

package difftest

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

func texts(rows []row, columns []string) []string {
	all := make([]string, len(rows))
	for i, r := range rows {
		all[i] = key(r, columns)
	}
	return all
}

func names(cols []*column) []string {
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
		return nil, fmt.Errorf("the columns are %q, want %q", got, columns)
	}
	for r.Next() {
		batch := r.RecordBatch()
		for i := range int(batch.NumRows()) {
			var b strings.Builder
			for _, c := range batch.Columns() {
				b.WriteString(canon(read(c, i)) + "|")
			}
			all = append(all, b.String())
		}
	}
	return all, r.Err()
}

// differ returns an error if the rows differ from the wanted ones, in order or in any order.
func (d *run) differ(got, want []string, ordered bool) error {
	d.counts.Comparisons++
	if !ordered {
		got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	}
	if slices.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	show := func(rows []string) string {
		return fmt.Sprintf("%.600s", strings.Join(rows[at:min(len(rows), at+3)], "\n     "))
	}
	return fmt.Errorf("%d rows, want %d; from the %d. on\n got %s\nwant %s", len(got), len(want), at+1, show(got), show(want))
}

// check compares random reads with the model after a step.
func (d *run) check(r *rand.Rand) error {
	if err := d.all(); err != nil {
		return err
	}
	for range 5 {
		var what string
		var err error
		switch r.IntN(11) {
		case 0, 1, 2:
			what, err = d.scan(r, d.state, nil, true)
		case 3:
			what, err = d.parts(r)
		case 4:
			what, err = d.ends(r)
		case 5, 6:
			what, err = d.query(r)
		case 9, 10:
			what, err = d.partitioned(r)
		case 7:
			if all := sortedKeys(d.versions); len(all) > 0 {
				v := pick(r, all...)
				what, err = d.scan(r, d.versions[v], tables.AtVersion(v), false)
				what = fmt.Sprint("at version ", v, ": ", what)
			}
		case 8:
			if all := sortedKeys(d.snapshots); len(all) > 0 {
				s := pick(r, all...)
				what, err = d.scan(r, d.snapshots[s], tables.AtSnapshot(s), false)
				what = fmt.Sprint("in snapshot ", s, ": ", what)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
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

// all compares all rows with the model, and adopts the order in which they are read.
func (d *run) all() error {
	t, err := d.bucket.Table(d.ctx, "t")
	if err != nil {
		return err
	}
	columns := names(d.cols)
	r, err := t.Scan(d.ctx, nil)
	got, err := readAll(r, err, columns)
	if err == nil {
		err = d.differ(got, texts(d.rows, columns), d.arrival && d.settings.Time == "")
	}
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	place := map[string]int{}
	for i, text := range got {
		place[text] = i
	}
	d.rows = slices.SortedStableFunc(slices.Values(d.rows), func(a, b row) int { return place[key(a, columns)] - place[key(b, columns)] })
	if at := d.settings.Time; at != "" && !slices.IsSortedFunc(d.rows, func(a, b row) int { return a[at].(*big.Rat).Cmp(b[at].(*big.Rat)) }) {
		return errors.New("get: the rows are not in the order of time")
	}
	vs, err := t.Versions(d.ctx)
	if len(vs) > 0 && vs[len(vs)-1].Version > d.newest { // the version keeps the current columns
		if d.newest = vs[len(vs)-1].Version; !d.inTail {
			d.versions[d.newest] = d.state
		}
	}
	return err
}

func projection(r *rand.Rand, cols []*column) []string {
	all := names(cols)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+r.IntN(len(all))]
}

// options returns the options of a random scan, and the rows that it should yield.
func (d *run) options(r *rand.Rand, s state) (o *tables.ScanOptions, columns []string, want []row, what string, err error) {
	o, columns, want = &tables.ScanOptions{ChunkRows: pick[int64](r, 0, 0, 1, 7)}, names(s.cols), s.rows
	if r.IntN(4) > 0 {
		columns = projection(r, s.cols)
		o.Columns = columns
		what += fmt.Sprintf(" --columns %q", columns)
	}
	if r.IntN(5) > 0 {
		c := randomCond(r, s.cols, s.rows, 2)
		what += " --where " + c.String()
		if o.Filter, err = filter.Parse(c.String()); err != nil {
			return o, nil, nil, what, err
		}
		want = slices.DeleteFunc(slices.Clone(want), func(r row) bool { return c.of(r) != yes })
	}
	name, from, to := d.randomRange(r)
	timed := slices.ContainsFunc(s.cols, func(c *column) bool { return c.name == name && canOrder(c.typ, true) }) // the column was also a time column in this state
	if name != "" && len(s.rows) == len(d.rows) && r.IntN(3) == 0 && timed {
		o.TimeColumn, o.From, o.To = name, from, to
		what += fmt.Sprintf(" --time-column %q --from %s --to %s", name, from, to)
		want = slices.DeleteFunc(slices.Clone(want), func(r row) bool { return !within(r[name], from, to) && !(from.IsZero() && to.IsZero()) })
	}
	return o, columns, want, what, nil
}

// scan compares a random scan with the state's rows, which are in order if ordered is true.
func (d *run) scan(r *rand.Rand, s state, at tables.At, ordered bool) (string, error) {
	o, columns, want, what, err := d.options(r, s)
	if err != nil {
		return what, err
	}
	switch n := 1 + r.IntN(8); {
	case !ordered:
	case r.IntN(4) == 0:
		o.Limit, want = int64(n), want[:min(n, len(want))]
		what += fmt.Sprint(" --limit ", n)
	case r.IntN(4) == 0:
		o.Last, want = int64(n), want[max(0, len(want)-n):]
		what += fmt.Sprint(" last ", n)
	}
	t, err := d.bucket.Table(d.ctx, "t", at)
	if err != nil {
		return what, err
	}
	reader, err := t.Scan(d.ctx, o)
	got, err := readAll(reader, err, columns)
	if err == nil {
		err = d.differ(got, texts(want, columns), ordered)
	}
	return "get" + what, err
}

// parts compares the rows of all parts with those of a scan.
func (d *run) parts(r *rand.Rand) (string, error) {
	o, columns, want, what, err := d.options(r, d.state)
	if err != nil {
		return what, err
	}
	if !o.From.IsZero() || !o.To.IsZero() {
		return what, nil // parts do not support ranges
	}
	t, err := d.bucket.Table(d.ctx, "t")
	if err != nil {
		return what, err
	}
	n, err := t.Parts(d.ctx)
	var all []string
	for o.Part = 1; err == nil && o.Part <= int64(n); o.Part++ {
		var got []string
		reader, failed := t.Scan(d.ctx, o)
		got, err = readAll(reader, failed, columns)
		all = append(all, got...)
	}
	if err == nil {
		var after int
		if after, err = t.Parts(d.ctx); err == nil && after != n { // a fold happened in between
			return d.parts(r)
		}
	}
	if err == nil {
		err = d.differ(all, texts(want, columns), false)
	}
	return fmt.Sprintf("%d parts%s", n, what), err
}

func (d *run) ends(r *rand.Rand) (string, error) {
	t, err := d.bucket.Table(d.ctx, "t")
	if err != nil {
		return "", err
	}
	columns, n := names(d.cols), 1+r.IntN(9)
	all := texts(d.rows, columns)
	for _, end := range []struct {
		what string
		read func() (array.RecordReader, error)
		want []string
	}{
		{fmt.Sprint("head ", n), func() (array.RecordReader, error) { return t.Head(d.ctx, int64(n)) }, all[:min(n, len(all))]},
		{fmt.Sprint("tail ", n), func() (array.RecordReader, error) { return t.Tail(d.ctx, int64(n)) }, all[max(0, len(all)-n):]},
		{"last", func() (array.RecordReader, error) { return t.Last(d.ctx) }, all[max(0, len(all)-1):]},
	} {
		reader, err := end.read()
		got, err := readAll(reader, err, columns)
		if err == nil {
			err = d.differ(got, end.want, true)
		}
		if err != nil {
			return end.what, err
		}
	}
	return "", nil
}

// query compares the result of an SQL query with the model.
func (d *run) query(r *rand.Rand) (string, error) {
	cut := func(c *column) bool { // SQL has only microseconds in nested columns
		return arrow.IsNested(c.typ.ID()) && strings.Contains(c.typ.String(), "timestamp[ns, tz=")
	}
	columns, want, text := projection(r, slices.DeleteFunc(slices.Clone(d.cols), cut)), d.rows, ""
	for range 5 { // until SQL can express the condition
		if c := randomCond(r, d.cols, d.rows, 1); c.sql() != "" {
			text = " WHERE " + c.sql()
			want = slices.DeleteFunc(slices.Clone(want), func(r row) bool { return c.of(r) != yes })
			break
		}
	}
	quotes := make([]string, len(columns))
	for i, name := range columns {
		quotes[i] = quoted(name)
	}
	text = "SELECT " + strings.Join(quotes, ", ") + " FROM t" + text
	reader, err := d.store.Query(d.ctx, text, &tables.QueryOptions{Bucket: "b", Nanoseconds: true})
	if errors.Is(err, errors.ErrUnsupported) {
		return text, nil
	}
	got, err := readAll(reader, err, columns)
	if err == nil {
		err = d.differ(got, texts(want, columns), false)
	}
	return text, err
}

// verify returns an error if Verify finds damaged files.
func (d *run) verify() error {
	var found bytes.Buffer
	_, err := d.store.Verify(d.ctx, &tables.VerifyOptions{Report: func(f tables.Finding) { fmt.Fprintf(&found, "\n%+v", f) }})
	if err == nil && found.Len() > 0 {
		err = errors.New(found.String())
	}
	if err != nil {
		err = fmt.Errorf("verify: %w", err)
	}
	return err
}

package page

import (
	"encoding/csv"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/formats"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

type key struct {
	column string
	down   bool
}

// view is a table as somebody looks at it.
type view struct {
	*selected
	sql    string    // in the table's place, or ""
	before tables.At // of sql
	filter string
	keys   []key // all columns follow where there are any, so that no two different rows are equal
}

func (h *handler) viewOf(q *request) (*view, error) {
	s, err := h.selected(q)
	if err != nil {
		return nil, err
	}
	v := &view{selected: s, filter: q.URL.Query().Get("filter")}
	if id := q.URL.Query().Get("id"); id != "" {
		if err := checkID(id); err != nil {
			return nil, err
		}
		q.cancellable(h, id)
	}
	sort := q.URL.Query().Get("sort")
	if sort == "" {
		return v, nil
	}
	names, err := listed("sort", sort)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		column, down := strings.CutPrefix(name, "-")
		if !down {
			column = strings.TrimPrefix(name, "+")
		}
		if !s.schema.HasField(column) {
			return nil, invalid("sort: there is no column %.80q", column)
		}
		v.keys = append(v.keys, key{column, down})
	}
	for _, f := range s.schema.Fields() {
		if !slices.ContainsFunc(v.keys, func(k key) bool { return k.column == f.Name }) {
			v.keys = append(v.keys, key{f.Name, v.keys[0].down})
		}
	}
	return v, nil
}

// listed reads the names of a parameter, which has commas between them as a line of CSV.
func listed(parameter, text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	names, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, invalid("%s: %v", parameter, err)
	}
	return names, nil
}

func (v *view) options() *tables.QueryOptions {
	return &tables.QueryOptions{Bucket: v.bucket, At: v.at, Before: v.before}
}

// from is the end of a statement over the view's rows for which a condition, too,
// is true.
func (v *view) from(condition string) string {
	source := sqlquote.Name(v.name)
	if v.sql != "" {
		source = "(\n" + v.sql + "\n)"
	}
	switch {
	case v.filter != "" && condition != "":
		condition = " AND " + condition
	case v.filter == "" && condition == "":
		return " FROM " + source
	case v.filter == "":
		return " FROM " + source + " WHERE " + condition
	}
	return " FROM " + source + "\nWHERE (\n" + v.filter + "\n)" + condition
}

// above is how many lines stand before the filter.
func (v *view) above() int { return 2 + strings.Count(v.name+v.sql, "\n") }

// order is how the rows are sorted, or the other way round.
func (v *view) order(reverse bool) string {
	terms := make([]string, len(v.keys))
	for i, k := range v.keys {
		terms[i] = sqlquote.Name(k.column) + " ASC NULLS LAST"
		if k.down != reverse {
			terms[i] = sqlquote.Name(k.column) + " DESC NULLS FIRST"
		}
	}
	if len(terms) == 0 {
		return ""
	}
	return " ORDER BY " + strings.Join(terms, ", ")
}

// counts are how many rows views of states of tables have.
type counts struct {
	mu    sync.Mutex
	known map[string]int64
}

const mostKnown = 1000 // bytes of a filter whose count is kept

// changing is a filter that may be about other tables, or the time.
var changing = regexp.MustCompile(`(?i)\(|current_|local|now|today`)

// total counts the rows of a view.
func (h *handler) total(q *request, v *view) (int64, error) {
	const most = 1000
	m, err := v.table.ScanPlan(q.Ctx)
	if err != nil {
		return 0, err
	}
	state := fmt.Sprintf("%s %d %s %s", m.UUID, m.Version, m.TailMark, v.filter)
	m.Close()
	c := &h.counts
	c.mu.Lock()
	n, ok := c.known[state]
	c.mu.Unlock()
	if ok {
		return n, nil
	}
	rows, err := h.texts(q, v, "SELECT count(*)"+v.from(""), nil)
	if err != nil {
		return 0, err
	}
	n, err = strconv.ParseInt(rows[0][0], 10, 64)
	if len(v.filter) <= mostKnown && !changing.MatchString(v.filter) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.known == nil || len(c.known) >= most {
			c.known = map[string]int64{}
		}
		c.known[state] = n
	}
	return n, err
}

func (h *handler) rows(q *request) error {
	v, err := h.viewOf(q)
	if err != nil {
		return err
	}
	p := q.URL.Query()
	limit, err := number(p, "limit", 200, 1, 10_000)
	if err != nil {
		return err
	}
	offset, err := number(p, "offset", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	info, err := v.table.Info(q.Ctx)
	if err != nil {
		return err
	}
	total, err := h.total(q, v)
	if err != nil {
		return err
	}
	q.W.Header().Set("X-Partd-Rows", strconv.FormatInt(total, 10))
	q.W.Header().Set("X-Partd-Version", strconv.FormatInt(int64(info.Version), 10))
	n := max(0, min(limit, total-offset))
	o := v.options()
	sql, err := h.pageSQL(q, v, o, offset, n, total)
	if err != nil {
		return err
	}
	if o.Parameters != nil {
		defer o.Parameters.Release()
	}
	return h.stream(q, formats.Arrow, sql, o, 0, v.above())
}

func cut(n, offset int64) string { return fmt.Sprintf(" LIMIT %d OFFSET %d", n, offset) }

// pageSQL returns the statement for n rows from an offset on, of total. Sorting
// whole rows takes long, and memory for all before those wanted. So the value of
// the first key at the page is looked for, from the nearer end or, where that is far,
// in the middle, and only the rows around it are sorted.
func (h *handler) pageSQL(q *request, v *view, o *tables.QueryOptions, offset, n, total int64) (string, error) {
	const far = 10_000
	rest := total - offset - n
	if len(v.keys) == 0 || n == 0 {
		return "SELECT *" + v.from("") + cut(n, offset), nil
	}
	if first, _ := v.schema.FieldsByName(v.keys[0].column); !canBind(first[0].Type) {
		return "SELECT *" + v.from("") + v.order(false) + cut(n, offset), nil
	}
	if min(offset, rest) > far {
		if sql, err := h.around(q, v, o, offset, n, total); err != nil || sql != "" {
			return sql, err
		}
	}
	reverse := rest < offset
	condition, err := h.end(q, v, o, v.keys[0].down != reverse, min(offset, rest)+n)
	if err != nil || !reverse {
		return "SELECT *" + v.from(condition) + v.order(false) + cut(n, offset), err
	}
	return "SELECT * FROM (SELECT *" + v.from(condition) + v.order(true) + cut(n, rest) + ")" + v.order(false), nil
}

// canBind reports whether values of a type can be parameters.
func canBind(t arrow.DataType) bool {
	id := t.ID()
	return arrow.IsInteger(id) || arrow.IsFloating(id) || slices.Contains([]arrow.Type{arrow.STRING, arrow.BOOL, arrow.TIMESTAMP, arrow.DATE32}, id)
}

// end is a condition, with its parameter, that is true for the first m rows of a
// view, in the order of the first key alone; "" for all.
func (h *handler) end(q *request, v *view, o *tables.QueryOptions, down bool, m int64) (string, error) {
	const most = 100_000 // values that the engine holds for it
	k := sqlquote.Name(v.keys[0].column)
	last, of, condition := "max", "min", k+" <= $1"
	if down {
		last, of, condition = "min", "max", "("+k+" >= $1 OR "+k+" IS NULL)"
	}
	if m > most {
		return "", nil
	}
	sql := fmt.Sprintf("SELECT %s(k) AS k FROM (SELECT unnest(%s(%s, %d)) AS k%s) HAVING count(*) = %d", last, of, k, m, v.from(""), m)
	if err := h.bound(q, v, o, sql); err != nil || o.Parameters == nil {
		return "", err
	}
	return condition, nil
}

// bound makes the row of a statement the parameters of the next.
func (h *handler) bound(q *request, v *view, o *tables.QueryOptions, sql string) error {
	return lines(h.eachBatch(q, sql, o, func(b arrow.RecordBatch) error {
		b.Retain()
		o.Parameters = b
		return nil
	}), v.above())
}

// around is pageSQL for rows in the middle, "" where they have nulls as their first
// key.
func (h *handler) around(q *request, v *view, o *tables.QueryOptions, offset, n, total int64) (string, error) {
	k, first := sqlquote.Name(v.keys[0].column), offset
	if v.keys[0].down {
		first = total - offset - n // from the smallest on
	}
	rows, err := h.texts(q, v, "SELECT count("+k+")"+v.from(""), nil)
	if err != nil {
		return "", err
	}
	values, err := strconv.ParseInt(rows[0][0], 10, 64)
	if err != nil || first+n > values {
		return "", err
	}
	at := func(i int64) string {
		return fmt.Sprintf("quantile_disc(%s, %v)", k, min(1, max(0, (float64(i)+0.5)/float64(values))))
	}
	err = h.bound(q, v, o, "SELECT "+at(first-1)+" AS lo, "+at(first+n)+" AS hi"+v.from(""))
	if err != nil || o.Parameters == nil {
		return "", err
	}
	before := "SELECT count(*)" + v.from(k+" < $1 AND "+k+" <= $2")
	if v.keys[0].down {
		before = "SELECT count(*)" + v.from("("+k+" > $2 AND "+k+" >= $1 OR "+k+" IS NULL)")
	}
	rows, err = h.texts(q, v, before, o.Parameters)
	if err != nil {
		return "", err
	}
	skip, err := strconv.ParseInt(rows[0][0], 10, 64)
	return "SELECT *" + v.from(k+" >= $1 AND "+k+" <= $2") + v.order(false) + cut(n, offset-skip), err
}

// eachBatch runs a statement about a view.
func (h *handler) eachBatch(q *request, sql string, o *tables.QueryOptions, f func(arrow.RecordBatch) error) error {
	release, err := flightd.AcquireQuery(q.Ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := h.store.Query(q.Ctx, sql, o)
	if err != nil {
		return err
	}
	defer r.Release()
	for r.Next() {
		if err := f(r.RecordBatch()); err != nil {
			return err
		}
	}
	return r.Err()
}

// texts returns a small result as texts, "" for a null.
func (h *handler) texts(q *request, v *view, sql string, parameters arrow.RecordBatch) (all [][]string, err error) {
	o := v.options()
	o.Parameters = parameters
	err = h.eachBatch(q, sql, o, func(b arrow.RecordBatch) error {
		for i := range int(b.NumRows()) {
			row := make([]string, b.NumCols())
			for k, c := range b.Columns() {
				if c.IsValid(i) {
					row[k] = strings.Clone(c.ValueStr(i)) // the batch goes, and with it its memory
				}
			}
			all = append(all, row)
		}
		return nil
	})
	return all, lines(err, v.above())
}

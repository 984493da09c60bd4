package page

import (
	"cmp"
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
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

type sortKey struct {
	column     string
	descending bool
}

// view is a table or the result of a statement, with the user's filter and order.
type view struct {
	*tableState
	sql    string    // a statement that replaces the table, or ""
	before tables.At // earlier state for comparisons in sql
	filter string
	// what the statement for the rows selects from: a subquery that keepNanoseconds has built, or "" for the table
	source string
	star   string            // select list of the statement for the rows, from keepNanoseconds; "" means *
	exact  map[string]string // for each column with exact nanoseconds, the name of the exact column in source
	keys   []sortKey         // either empty or all columns, so that only equal rows compare as equal
}

func (h *handler) parseView(q *request) (*view, error) {
	s, err := h.selectTable(q)
	if err != nil {
		return nil, err
	}
	v := &view{tableState: s, filter: q.URL.Query().Get("filter")}
	if err := h.useID(q); err != nil {
		return nil, err
	}
	sort := q.URL.Query().Get("sort")
	if sort == "" {
		return v, nil
	}
	names, err := parseNames("sort", sort)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		column, descending := strings.CutPrefix(name, "-")
		if !descending {
			column = strings.TrimPrefix(name, "+")
		}
		if !s.schema.HasField(column) {
			return nil, invalid("sort: there is no column %.80q", column)
		}
		v.keys = append(v.keys, sortKey{column, descending})
	}
	for _, f := range s.schema.Fields() {
		if !slices.ContainsFunc(v.keys, func(k sortKey) bool { return k.column == f.Name }) {
			v.keys = append(v.keys, sortKey{f.Name, v.keys[0].descending})
		}
	}
	return v, nil
}

// useID makes the request cancellable if it has an id.
func (h *handler) useID(q *request) error {
	id := q.URL.Query().Get("id")
	if id == "" {
		return nil
	}
	if err := checkID(id); err != nil {
		return err
	}
	q.cancellable(h, id)
	return nil
}

// parseNames parses a parameter that is a CSV record of names.
func parseNames(parameter, text string) ([]string, error) {
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

// from returns a FROM clause for the view's rows that satisfy a condition, or for all its rows if condition is "".
func (v *view) from(condition string) string {
	if v.sql != "" {
		return v.fromSource("(\n"+v.sql+"\n)", condition)
	}
	return v.fromSource(sqltext.Name(v.name), condition)
}

func (v *view) fromSource(source, condition string) string {
	sql := " FROM " + source
	if v.filter != "" {
		sql += "\nWHERE (\n" + v.filter + "\n)"
		if condition != "" {
			sql += " AND " + condition
		}
	} else if condition != "" {
		sql += " WHERE " + condition
	}
	return sql
}

// linesAbove returns the number of lines before the filter in a generated statement, to correct the line numbers in
// errors. The 2 counts the line breaks before and after "WHERE (".
func (v *view) linesAbove() int { return 2 + strings.Count(v.name+v.sql, "\n") }

func (v *view) orderBy(reverse bool) string {
	terms := make([]string, len(v.keys))
	for i, k := range v.keys {
		name := sqltext.Name(cmp.Or(v.exact[k.column], k.column))
		terms[i] = name + " ASC NULLS LAST"
		if k.descending != reverse {
			terms[i] = name + " DESC NULLS FIRST"
		}
	}
	if len(terms) == 0 {
		return ""
	}
	return " ORDER BY " + strings.Join(terms, ", ")
}

type countCache struct {
	mu      sync.Mutex
	byState map[string]int64 // row counts of views, by the table's state and the filter
}

const maxCachedFilter = 1000 // maximum length of a filter in countCache, in bytes

// volatileFilter matches filters that can depend on other tables or on the time.
var volatileFilter = regexp.MustCompile(`(?i)\(|current_|local|now|today`)

func (h *handler) countRows(q *request, v *view) (int64, error) {
	const maxEntries = 1000
	plan, err := v.table.ScanPlan(q.Ctx)
	if err != nil {
		return 0, err
	}
	cacheKey := fmt.Sprintf("%s %d %s %s", plan.UUID, plan.Version, plan.TailMark, v.filter)
	plan.Close()
	c := &h.counts
	c.mu.Lock()
	n, ok := c.byState[cacheKey]
	c.mu.Unlock()
	if ok {
		return n, nil
	}
	n, err = h.queryNumber(q, v, "SELECT count(*)"+v.from(""), nil)
	if err != nil {
		return 0, err
	}
	if len(v.filter) <= maxCachedFilter && !volatileFilter.MatchString(v.filter) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.byState == nil || len(c.byState) >= maxEntries {
			c.byState = map[string]int64{}
		}
		c.byState[cacheKey] = n
	}
	return n, err
}

func (h *handler) rows(q *request) error {
	v, err := h.parseView(q)
	if err != nil {
		return err
	}
	p := q.URL.Query()
	limit, err := intParam(p, "limit", 200, 1, 10_000)
	if err != nil {
		return err
	}
	offset, err := intParam(p, "offset", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	if err := h.keepNanoseconds(q, v); err != nil {
		return err
	}
	info, err := v.table.Info(q.Ctx)
	if err != nil {
		return err
	}
	total, err := h.countRows(q, v)
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
	return h.stream(q, formats.Arrow(), sql, o, 0, v)
}

func limitClause(n, offset int64) string { return fmt.Sprintf(" LIMIT %d OFFSET %d", n, offset) }

// pageSQL returns the statement for a page: n of total rows, starting at offset. Sorting whole rows is slow and needs
// memory for all rows up to the page. So pageSQL finds a range of the first sort key that includes the page, and the
// statement sorts only the rows in that range.
func (h *handler) pageSQL(q *request, v *view, o *tables.QueryOptions, offset, n, total int64) (string, error) {
	const maxFromEnd = 10_000 // if more rows are both before and after the page, middleSQL is tried first
	rowsAfter := total - offset - n
	if len(v.keys) == 0 || n == 0 {
		return v.rowsSQL("") + limitClause(n, offset), nil
	}
	if first, _ := v.schema.FieldsByName(v.keys[0].column); !canBind(first[0].Type) {
		return v.rowsSQL("") + limitClause(n, offset), nil
	}
	if min(offset, rowsAfter) > maxFromEnd {
		if sql, err := h.middleSQL(q, v, o, offset, n, total); err != nil || sql != "" {
			return sql, err
		}
	}
	reverse := rowsAfter < offset
	condition, err := h.endCondition(q, v, o, v.keys[0].descending != reverse, min(offset, rowsAfter)+n)
	if err != nil || !reverse {
		return v.rowsSQL(condition) + limitClause(n, offset), err
	}
	return "SELECT " + cmp.Or(v.star, "*") + " FROM (SELECT *" + v.rowsFrom(condition) + v.orderBy(true) + limitClause(n, rowsAfter) + ")" + v.orderBy(false), nil
}

func canBind(t arrow.DataType) bool {
	id := t.ID()
	return arrow.IsInteger(id) || arrow.IsFloating(id) || slices.Contains([]arrow.Type{arrow.STRING, arrow.BOOL, arrow.TIMESTAMP, arrow.DATE32}, id)
}

// endCondition returns a condition that is true for at least the first m rows of a view, ordered by its first sort key.
// It sets the condition's parameter in o. It returns "" if m exceeds maxValues, or if fewer than m rows have a key that
// is not null.
func (h *handler) endCondition(q *request, v *view, o *tables.QueryOptions, descending bool, m int64) (string, error) {
	const maxValues = 100_000 // the engine holds m values in memory
	k := sqltext.Name(v.keys[0].column)
	outer, inner, condition := "max", "min", k+" <= $1"
	if descending {
		outer, inner, condition = "min", "max", "("+k+" >= $1 OR "+k+" IS NULL)"
	}
	if m > maxValues {
		return "", nil
	}
	sql := fmt.Sprintf("SELECT %s(k) AS k FROM (SELECT unnest(%s(%s, %d)) AS k%s) HAVING count(*) = %d", outer, inner, k, m, v.from(""), m)
	if err := h.bindRow(q, v, o, sql); err != nil || o.Parameters == nil {
		return "", err
	}
	return condition, nil
}

// bindRow runs a statement and sets o.Parameters to the only row of its result.
func (h *handler) bindRow(q *request, v *view, o *tables.QueryOptions, sql string) error {
	return adjustLine(h.eachBatch(q, sql, o, func(b arrow.RecordBatch) error {
		b.Retain()
		o.Parameters = b
		return nil
	}), v.linesAbove())
}

// middleSQL is like pageSQL, for pages far from both ends. Two quantiles of the first sort key bound the page; the
// statement sorts only the rows between them and skips the rows before the page. middleSQL returns "" if the first sort
// key of a row on the page is null.
func (h *handler) middleSQL(q *request, v *view, o *tables.QueryOptions, offset, n, total int64) (string, error) {
	keyColumn := sqltext.Name(v.keys[0].column)
	first := offset
	if v.keys[0].descending {
		first = total - offset - n // counted from the smallest key
	}
	valueCount, err := h.queryNumber(q, v, "SELECT count("+keyColumn+")"+v.from(""), nil)
	if err != nil || first+n > valueCount {
		return "", err
	}
	quantileAt := func(i int64) string {
		// + 0.5 is the middle of row i, so that rounding does not select a neighbor
		return fmt.Sprintf("quantile_disc(%s, %v)", keyColumn, min(1, max(0, (float64(i)+0.5)/float64(valueCount))))
	}
	err = h.bindRow(q, v, o, "SELECT "+quantileAt(first-1)+" AS lo, "+quantileAt(first+n)+" AS hi"+v.from(""))
	if err != nil || o.Parameters == nil {
		return "", err
	}
	skippedSQL := "SELECT count(*)" + v.from(keyColumn+" < $1 AND "+keyColumn+" <= $2")
	if v.keys[0].descending {
		skippedSQL = "SELECT count(*)" + v.from("("+keyColumn+" > $2 AND "+keyColumn+" >= $1 OR "+keyColumn+" IS NULL)")
	}
	skipped, err := h.queryNumber(q, v, skippedSQL, o.Parameters)
	return v.rowsSQL(keyColumn+" >= $1 AND "+keyColumn+" <= $2") + limitClause(n, offset-skipped), err
}

func (h *handler) eachBatch(q *request, sql string, o *tables.QueryOptions, f func(arrow.RecordBatch) error) error {
	release, err := serving.AcquireQuery(q.Ctx)
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

// queryTexts runs a statement with a small result and returns its values as text, with "" for nulls.
func (h *handler) queryTexts(q *request, v *view, sql string, parameters arrow.RecordBatch) (rows [][]string, err error) {
	o := v.options()
	o.Parameters = parameters
	err = h.eachBatch(q, sql, o, func(b arrow.RecordBatch) error {
		for i := range int(b.NumRows()) {
			row := make([]string, b.NumCols())
			for k, c := range b.Columns() {
				if c.IsValid(i) {
					row[k] = strings.Clone(c.ValueStr(i)) // the batch's memory is released after this function returns
				}
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, adjustLine(err, v.linesAbove())
}

// queryNumber returns the only value of a statement's result, an integer.
func (h *handler) queryNumber(q *request, v *view, sql string, parameters arrow.RecordBatch) (int64, error) {
	rows, err := h.queryTexts(q, v, sql, parameters)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(rows[0][0], 10, 64)
}

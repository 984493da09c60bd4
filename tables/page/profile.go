package page

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

const (
	binCount = 20     // number of bins in a histogram, and maximum number of top values
	maxExact = 10_000 // profile counts distinct values exactly if their estimated number is at most this
)

type binJSON struct {
	From  float64 `json:"from"`
	To    float64 `json:"to"`
	Count int64   `json:"count"`
}

type topJSON struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// numberSQL returns SQL that converts a column of type t to a number, or "" if that is impossible.
func numberSQL(t arrow.DataType, column string) string {
	switch typeInfo := arrowtype.Of(t); {
	case typeInfo.IsNumber():
		return column + "::DOUBLE"
	case typeInfo.Kind == arrowtype.Timestamp, typeInfo.Kind == arrowtype.Date:
		return "CASE WHEN isfinite(" + column + ") THEN epoch_us(" + column + "::TIMESTAMP) / 1000.0::DOUBLE END"
	}
	return ""
}

// profileSource returns the view of the table or the statement that contains the column to profile.
func (h *handler) profileSource(q *request) (*view, error) {
	p := q.URL.Query()
	if !p.Has("sql") {
		return h.parseView(q)
	}
	o, err := q.parseStatement(p)
	if err != nil {
		return nil, err
	}
	if p.Has("table") || p.Has("sort") {
		return nil, invalid("sql= cannot be combined with table= or sort=")
	}
	release, err := serving.AcquireQuery(q.Ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := h.store.Describe(q.Ctx, p.Get("sql"), o)
	if err != nil {
		return nil, asClientError(err)
	}
	return &view{tableState: &tableState{bucket: o.Bucket, at: o.At, schema: d.Result}, sql: p.Get("sql"), before: o.Before, filter: p.Get("filter")}, nil
}

func (h *handler) profile(q *request) error {
	v, err := h.profileSource(q)
	if err != nil {
		return err
	}
	name := q.URL.Query().Get("column")
	fields, ok := v.schema.FieldsByName(name)
	if !ok {
		return invalid("there is no column %.80q", name)
	}
	c := sqltext.Name(name)
	number := numberSQL(fields[0].Type, c)
	lowest, highest := "NULL", "NULL"
	if number != "" {
		lowest, highest = "min(n) FILTER (WHERE isfinite(n))", "max(n) FILTER (WHERE isfinite(n))"
	} else {
		number = "NULL"
	}
	rows, err := h.queryTexts(q, v, "SELECT count(*), count(c), approx_count_distinct(c), min(c)::VARCHAR, max(c)::VARCHAR, "+
		lowest+", "+highest+" FROM (SELECT "+c+" AS c, "+number+" AS n"+v.from("")+")", nil)
	if err != nil {
		return err
	}
	row := rows[0]
	out := struct {
		Column    string    `json:"column"`
		Type      string    `json:"type"`
		Rows      int64     `json:"rows"`
		Nulls     int64     `json:"nulls"`
		Distinct  int64     `json:"distinct"`
		Exact     bool      `json:"exact"` // whether Distinct is exact rather than an estimate
		Min       *string   `json:"min"`
		Max       *string   `json:"max"`
		Histogram []binJSON `json:"histogram"`
		Top       []topJSON `json:"top"`
	}{Column: name, Type: fields[0].Type.String()}
	var errs [3]error
	out.Rows, errs[0] = strconv.ParseInt(row[0], 10, 64)
	values, err := strconv.ParseInt(row[1], 10, 64)
	out.Distinct, errs[1] = strconv.ParseInt(row[2], 10, 64)
	out.Nulls, out.Distinct = out.Rows-values, min(out.Distinct, values)
	if values > 0 {
		out.Min, out.Max = &row[3], &row[4]
	}
	if lowest != "NULL" {
		out.Histogram, errs[2] = h.histogram(q, v, number, row[5], row[6])
	} else {
		out.Top, errs[2] = h.topValues(q, v, c)
	}
	if err := errors.Join(err, errors.Join(errs[:]...)); err != nil {
		return err
	}
	out.Exact = out.Distinct <= maxExact
	if out.Exact {
		out.Distinct, err = h.queryNumber(q, v, "SELECT count(DISTINCT "+c+")"+v.from(""), nil)
		if err != nil {
			return err
		}
	}
	return q.reply(out)
}

func (h *handler) histogram(q *request, v *view, number, lowest, highest string) ([]binJSON, error) {
	out := []binJSON{}
	if lowest == "" {
		return out, nil
	}
	lo, err := strconv.ParseFloat(lowest, 64)
	hi, hiErr := strconv.ParseFloat(highest, 64)
	err = errors.Join(err, hiErr)
	if err != nil {
		return nil, err
	}
	n, width := binCount, hi/binCount-lo/binCount
	if !(width > 0) { // all values are equal, or almost
		n, width = 1, 1
	}
	for i := range n {
		out = append(out, binJSON{From: lo + float64(i)*width, To: lo + float64(i+1)*width})
	}
	out[n-1].To = hi
	float := func(f float64) string { return "'" + strconv.FormatFloat(f, 'g', -1, 64) + "'::DOUBLE" }
	rows, err := h.queryTexts(q, v, fmt.Sprintf("SELECT least(floor((n - %s) / %s), %d)::INTEGER AS bin, count(*) FROM (SELECT %s AS n%s) WHERE isfinite(n) GROUP BY bin",
		float(lo), float(width), n-1, number, v.from("")), nil)
	for _, row := range rows {
		bin, binErr := strconv.Atoi(row[0])
		count, countErr := strconv.ParseInt(row[1], 10, 64)
		err = errors.Join(err, binErr, countErr)
		if err == nil {
			out[max(0, bin)].Count = count
		}
	}
	return out, err
}

func (h *handler) topValues(q *request, v *view, column string) ([]topJSON, error) {
	out := []topJSON{}
	rows, err := h.queryTexts(q, v, "SELECT left(c::VARCHAR, 256), n FROM (SELECT "+column+" AS c, count(*) AS n"+v.from(column+" IS NOT NULL")+
		fmt.Sprintf(" GROUP BY ALL) ORDER BY n DESC, 1 LIMIT %d", binCount), nil)
	for _, row := range rows {
		count, countErr := strconv.ParseInt(row[1], 10, 64)
		out, err = append(out, topJSON{row[0], count}), errors.Join(err, countErr)
	}
	return out, err
}

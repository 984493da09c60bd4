// Package lineprotocol puts points in InfluxDB's line protocol into tables. docs/line-protocol.md says which columns
// they become. The format is described at https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/, and
// its parser is InfluxData's own.
package lineprotocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	influx "github.com/influxdata/line-protocol/v2/lineprotocol"

	"github.com/go-partd/partd/tables"
)

const (
	// MaxBody is the maximum size of Parse's text, in bytes.
	MaxBody = 32 << 20

	maxLine         = 1 << 20 // in bytes; the parser's errors quote as much
	maxMeasurements = 1000
	maxCells        = 4 << 20  // maximum number of values and nulls in all columns of a body
	columnCells     = 64       // a new column counts as this many cells more
	cellBytes       = 24       // memory for a value of a column that grows
	cellStep        = 64 << 10 // number of cells for which memory is reserved at a time

	timeColumn = "time"
	serverTime = math.MinInt64 // stands for the time of a point without a timestamp; no timestamp has this value
)

// Error is a mistake in the body.
type Error struct {
	Line int
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// units are the units of timestamps, under their names in both versions of InfluxDB's API.
var units = map[string]time.Duration{
	"": 1, "n": 1, "ns": 1, "u": time.Microsecond, "us": time.Microsecond, "µ": time.Microsecond, "µs": time.Microsecond,
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
}

// Points are the points of a body, by measurement.
type Points struct {
	measurements []*measurement // in the order of their first points

	body    []byte
	unit    time.Duration // of the timestamps in the body
	now     int64         // the server's time, in nanoseconds
	points  int           // number of the current point, from 1
	cells   int
	reserve func(bytes int64) error
	byName  map[string]*measurement
}

// measurement has the points of one measurement, by column.
type measurement struct {
	name    string
	times   []int64 // in nanoseconds, or serverTime
	points  []int   // numbers of the points in the body
	columns []*column
	byName  map[string]*column
	byLower map[string]*column // by names in lower case
}

type column struct {
	name    string
	isTag   bool
	kind    influx.ValueKind
	first   int // number of the first point with the column
	builder array.Builder
	array   arrow.Array // set by Parse when all points are read
}

var types = map[influx.ValueKind]arrow.DataType{
	influx.Int: arrow.PrimitiveTypes.Int64, influx.Uint: arrow.PrimitiveTypes.Uint64, influx.Float: arrow.PrimitiveTypes.Float64,
	influx.Bool: arrow.FixedWidthTypes.Boolean, influx.String: arrow.BinaryTypes.String,
}

// Parse parses a body. Points without a timestamp get the time now. Parse and Put call reserve with the total memory
// that they need, each time before they need more; it may fail. A mistake in the body is an *Error.
func Parse(body []byte, precision string, now time.Time, reserve func(bytes int64) error) (*Points, error) {
	unit, ok := units[precision]
	if !ok {
		return nil, &tables.ArgumentError{Err: fmt.Errorf("precision is %.20q: it must be ns, us, ms, s, m or h", precision)}
	}
	p := &Points{body: body, unit: unit, now: now.UnixNano(), reserve: reserve, byName: map[string]*measurement{}}
	if err := checkText(body); err != nil {
		return nil, err
	}
	d := influx.NewDecoderWithBytes(body) // its buffer would grow without a limit if it had a reader
	for d.Next() {
		p.points++
		if err := p.parsePoint(d); err != nil {
			return nil, err
		}
	}
	for _, m := range p.measurements {
		for _, c := range m.columns {
			c.builder.AppendNulls(len(m.times) - c.builder.Len())
			c.array = c.builder.NewArray()
		}
	}
	return p, nil
}

// checkText refuses long lines and invalid UTF-8, because the parser's errors quote in full any name, number or rest of a
// line, and any string that is not UTF-8.
func checkText(body []byte) error {
	number := 0
	for line := range bytes.Lines(body) {
		number++
		switch {
		case len(line) > maxLine:
			return &Error{number, fmt.Errorf("the line has more than %d bytes", maxLine)}
		case !utf8.Valid(line):
			return &Error{number, errors.New("the line is not valid UTF-8")}
		}
	}
	return nil
}

func (p *Points) parsePoint(d *influx.Decoder) error {
	name, err := d.Measurement()
	if err != nil {
		return p.syntaxError(err)
	}
	m := p.byName[string(name)]
	if m == nil {
		if len(p.measurements) == maxMeasurements {
			return p.errorAt(p.points, "the body has more than %d measurements: send fewer at a time", maxMeasurements)
		}
		m = &measurement{name: string(name), byName: map[string]*column{}, byLower: map[string]*column{}}
		p.byName[m.name] = m
		p.measurements = append(p.measurements, m)
	}
	for {
		key, value, err := d.NextTag()
		if err != nil {
			return p.syntaxError(err)
		}
		if key == nil {
			break
		}
		c, err := p.column(m, key, influx.String, true)
		if err != nil {
			return err
		}
		c.builder.(*array.StringBuilder).BinaryBuilder.Append(value)
	}
	for {
		key, value, err := d.NextField()
		if err != nil {
			return p.syntaxError(err)
		}
		if key == nil {
			break
		}
		c, err := p.column(m, key, value.Kind(), false)
		if err != nil {
			return err
		}
		c.append(value)
	}
	timestamp, err := p.parseTime(d)
	if err != nil {
		return err
	}
	m.times, m.points = append(m.times, timestamp), append(m.points, p.points)
	return p.addCells(len(m.columns) + 1)
}

// parseTime returns a point's time in nanoseconds, or serverTime.
func (p *Points) parseTime(d *influx.Decoder) (int64, error) {
	text, err := d.TimeBytes()
	switch {
	case err != nil:
		return 0, p.syntaxError(err)
	case text == nil:
		return serverTime, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, p.errorAt(p.points, "the timestamp %.40q is not a whole number of 64 bits", text)
	}
	if limit := math.MaxInt64 / int64(p.unit); n > limit || n < -limit {
		return 0, p.errorAt(p.points, "the timestamp %d does not fit 64 bits of nanoseconds: check precision=", n)
	}
	return n * int64(p.unit), nil
}

// column returns the column of a tag or field, ready for the current point's value.
func (p *Points) column(m *measurement, key []byte, kind influx.ValueKind, isTag bool) (*column, error) {
	rows := len(m.times)
	c := m.byName[string(key)]
	if c == nil {
		c = &column{name: string(key), isTag: isTag, kind: kind, first: p.points, builder: array.NewBuilder(memory.DefaultAllocator, types[kind])}
		lower := strings.ToLower(c.name)
		if lower == timeColumn {
			return nil, p.errorAt(p.points, "measurement %.100q: %s is called time, as the column of the timestamps: rename it", m.name, c)
		}
		if other := m.byLower[lower]; other != nil {
			return nil, p.errorAt(p.points, "measurement %.100q: %s and the %s differ only in case, so SQL cannot distinguish them: rename one of them", m.name, c, other)
		}
		m.byName[c.name], m.byLower[lower] = c, c
		m.columns = append(m.columns, c)
		if err := p.addCells(rows + columnCells); err != nil {
			return nil, err
		}
	}
	switch {
	case c.isTag != isTag:
		return nil, p.errorAt(p.points, "measurement %.100q: %.100q is both a tag and a field: rename one of them", m.name, c.name)
	case c.kind != kind:
		return nil, p.errorAt(p.points, "measurement %.100q, field %.100q: the value is of type %v, but line %d has type %v", m.name, c.name, kind, p.lineOf(c.first), c.kind)
	case c.builder.Len() > rows:
		return nil, p.errorAt(p.points, "measurement %.100q: %s occurs twice", m.name, c)
	}
	c.builder.AppendNulls(rows - c.builder.Len())
	return c, nil
}

func (c *column) String() string {
	return fmt.Sprintf("%s %.100q", map[bool]string{true: "tag", false: "field"}[c.isTag], c.name)
}

func (c *column) append(v influx.Value) {
	switch b := c.builder.(type) {
	case *array.Int64Builder:
		b.Append(v.IntV())
	case *array.Uint64Builder:
		b.Append(v.UintV())
	case *array.Float64Builder:
		b.Append(v.FloatV())
	case *array.BooleanBuilder:
		b.Append(v.BoolV())
	case *array.StringBuilder:
		b.BinaryBuilder.Append(v.BytesV())
	}
}

// addCells counts n cells, and reserves memory for them. Without the limit, a short body with many fields, each of
// another point, would need the square of its size.
func (p *Points) addCells(n int) error {
	before := p.cells
	p.cells += n
	if p.cells > maxCells {
		return p.errorAt(p.points, "the body has more than %d values, counting each field and tag of a measurement for each of its points: send fewer points at a time", maxCells)
	}
	if before == 0 || before/cellStep != p.cells/cellStep {
		return p.reserve(p.memory())
	}
	return nil
}

// memory returns the memory for the cells so far, in bytes.
func (p *Points) memory() int64 { return int64(p.cells/cellStep+1) * cellStep * cellBytes }

// errorAt returns an error for the line of a point.
func (p *Points) errorAt(point int, format string, args ...any) error {
	return &Error{p.lineOf(point), fmt.Errorf(format, args...)}
}

// syntaxError converts an error of the parser, and shortens it.
func (p *Points) syntaxError(err error) error {
	if e := (*influx.DecodeError)(nil); errors.As(err, &e) {
		return &Error{int(e.Line), fmt.Errorf("column %d: %.1000v", e.Column, e.Err)}
	}
	return p.errorAt(p.points, "%.1000v", err)
}

// lineOf returns the number of the line where a point begins. The parser tells lines only in its own errors, so lineOf
// reads the body again, by a reader that counts the lines that the parser has taken.
func (p *Points) lineOf(point int) int {
	lines := &lineReader{rest: p.body}
	d := influx.NewDecoder(lines)
	for range point {
		d.Next()
	}
	return lines.count
}

// lineReader returns one line for each Read.
type lineReader struct {
	rest  []byte
	count int // number of lines that have begun
	open  bool
}

func (l *lineReader) Read(b []byte) (int, error) {
	if len(l.rest) == 0 {
		return 0, io.EOF
	}
	if !l.open {
		l.count++
	}
	end := bytes.IndexByte(l.rest, '\n') + 1
	if end == 0 {
		end = len(l.rest)
	}
	n := copy(b, l.rest[:end])
	l.open = n < end
	l.rest = l.rest[n:]
	return n, nil
}

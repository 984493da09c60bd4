// Package lineprotocol puts points in InfluxDB's line protocol into tables. docs/line-protocol.md says which columns
// they become. The format is described at https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/.
package lineprotocol

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
)

const (
	// MaxBody is the maximum size of Parse's text, in bytes.
	MaxBody = 32 << 20

	maxLine         = 1 << 20 // maximum length of a line, in bytes
	maxMeasurements = 1000
	maxCells        = 4 << 20  // maximum number of values and nulls in all columns of a body
	columnCells     = 64       // number of cells that a new column counts as, besides its values
	cellBytes       = 24       // memory for each cell, in bytes, including the spare capacity of growing columns
	cellStep        = 64 << 10 // number of cells for which memory is reserved at a time

	timeColumn = "time"
	serverTime = math.MinInt64 // stands for the time of a point without a timestamp; no timestamp has this value
)

// lineError returns the error for a mistake in a line of the body.
func lineError(line int, format string, args ...any) error {
	text := fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, args...)
	return &kinds.Error{Kind: kinds.Line, Text: text, Fields: kinds.Fields{Line: line}}
}

// units maps the names of timestamp units, in both versions of InfluxDB's API, to the units.
var units = map[string]time.Duration{
	"": 1, "n": 1, "ns": 1, "u": time.Microsecond, "us": time.Microsecond, "µ": time.Microsecond, "µs": time.Microsecond,
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
}

// Points contains the points of a request's body, by measurement.
type Points struct {
	measurements []*measurement // in the order of their first points

	lexer   *lexer
	unit    time.Duration // unit of the timestamps in the body
	now     int64         // the server's time, in nanoseconds
	point   int           // offset of the current point in the body
	cells   int           // number of cells so far (see addCells)
	reserve func(bytes int64) error
	byName  map[string]*measurement
}

// measurement contains the points of one measurement, by column.
type measurement struct {
	name    string
	times   []int64 // times of the points, in nanoseconds or serverTime
	points  []int   // offsets of the points in the body
	columns []*column
	byName  map[string]*column
	byLower map[string]*column // columns, by lower-case name
}

type column struct {
	name    string
	isTag   bool
	kind    kind
	first   int // offset of the first point with the column
	builder array.Builder
	array   arrow.Array // set by Parse when all points are read
}

var types = map[kind]arrow.DataType{
	kindInt: arrow.PrimitiveTypes.Int64, kindUint: arrow.PrimitiveTypes.Uint64, kindFloat: arrow.PrimitiveTypes.Float64,
	kindBool: arrow.FixedWidthTypes.Boolean, kindString: arrow.BinaryTypes.String,
}

// Parse parses a body whose timestamps have the unit named by precision. A point without a timestamp gets now as its
// time. Before Parse or Put needs more memory, it calls reserve with the new total number of bytes. If reserve fails,
// so do Parse and Put. A mistake in the body is an error of kind kinds.Line.
func Parse(body []byte, precision string, now time.Time, reserve func(bytes int64) error) (*Points, error) {
	unit, ok := units[precision]
	if !ok {
		return nil, &tables.ArgumentError{Err: fmt.Errorf("precision is %.20q: it must be ns, us, ms, s, m or h", precision)}
	}
	p := &Points{lexer: &lexer{body: body}, unit: unit, now: now.UnixNano(), reserve: reserve, byName: map[string]*measurement{}}
	if err := checkText(body); err != nil {
		return nil, err
	}
	for p.lexer.next() {
		p.point = p.lexer.pos
		if err := p.parsePoint(); err != nil {
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

// checkText rejects invalid UTF-8, and lines that are too long to find an error's column in them.
func checkText(body []byte) error {
	number := 0
	for line := range bytes.Lines(body) {
		number++
		switch {
		case len(line) > maxLine:
			return lineError(number, "the line has more than %d bytes", maxLine)
		case !utf8.Valid(line):
			return lineError(number, "the line is not valid UTF-8")
		}
	}
	return nil
}

func (p *Points) parsePoint() error {
	name, err := p.lexer.measurement()
	if err != nil {
		return err
	}
	m := p.byName[string(name)]
	if m == nil {
		if len(p.measurements) == maxMeasurements {
			return p.errorAt(p.point, "the body has more than %d measurements: send fewer at a time", maxMeasurements)
		}
		m = &measurement{name: string(name), byName: map[string]*column{}, byLower: map[string]*column{}}
		p.byName[m.name] = m
		p.measurements = append(p.measurements, m)
	}
	for {
		key, text, err := p.lexer.tag()
		if err != nil {
			return err
		}
		if key == nil {
			break
		}
		c, err := p.column(m, key, kindString, true)
		if err != nil {
			return err
		}
		c.builder.(*array.StringBuilder).BinaryBuilder.Append(text)
	}
	for isLast := false; !isLast; {
		var key []byte
		var v value
		key, v, isLast, err = p.lexer.field()
		if err != nil {
			return err
		}
		c, err := p.column(m, key, v.kind, false)
		if err != nil {
			return err
		}
		c.append(v)
	}
	timestamp, err := p.parseTime()
	if err != nil {
		return err
	}
	m.times, m.points = append(m.times, timestamp), append(m.points, p.point)
	return p.addCells(len(m.columns) + 1)
}

// parseTime returns a point's time in nanoseconds, or serverTime.
func (p *Points) parseTime() (int64, error) {
	text, err := p.lexer.timestamp()
	switch {
	case err != nil:
		return 0, err
	case len(text) == 0:
		return serverTime, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || text[0] == '+' {
		return 0, p.errorAt(p.point, "the timestamp %.40q is not a whole number of 64 bits", text)
	}
	// exclude math.MaxInt64 nanoseconds, which means infinity in SQL; InfluxDB has the same limit
	if limit := (math.MaxInt64 - 1) / int64(p.unit); n > limit || n < -limit {
		return 0, p.errorAt(p.point, "the timestamp %d does not fit 64 bits of nanoseconds: check precision=", n)
	}
	return n * int64(p.unit), nil
}

// column returns the column of a tag or field, ready for the current point's value.
func (p *Points) column(m *measurement, key []byte, kind kind, isTag bool) (*column, error) {
	rows := len(m.times)
	c := m.byName[string(key)]
	if c == nil {
		c = &column{name: string(key), isTag: isTag, kind: kind, first: p.point, builder: array.NewBuilder(memory.DefaultAllocator, types[kind])}
		lower := strings.ToLower(c.name)
		if lower == timeColumn {
			return nil, p.errorAt(p.point, "measurement %.100q: %s is called time, like the timestamp column: rename it", m.name, c)
		}
		if other := m.byLower[lower]; other != nil {
			return nil, p.errorAt(p.point, "measurement %.100q: %s and the %s differ only in case, so SQL cannot distinguish them: rename one of them", m.name, c, other)
		}
		m.byName[c.name], m.byLower[lower] = c, c
		m.columns = append(m.columns, c)
		if err := p.addCells(rows + columnCells); err != nil {
			return nil, err
		}
	}
	switch {
	case c.isTag != isTag:
		return nil, p.errorAt(p.point, "measurement %.100q: %.100q is both a tag and a field: rename one of them", m.name, c.name)
	case c.kind != kind:
		return nil, p.errorAt(p.point, "measurement %.100q, field %.100q: the value is of type %v, but line %d has type %v", m.name, c.name, kind, p.lexer.lineOf(c.first), c.kind)
	case c.builder.Len() > rows:
		return nil, p.errorAt(p.point, "measurement %.100q: %s occurs twice", m.name, c)
	}
	c.builder.AppendNulls(rows - c.builder.Len())
	return c, nil
}

func (c *column) String() string {
	return fmt.Sprintf("%s %.100q", map[bool]string{true: "tag", false: "field"}[c.isTag], c.name)
}

func (c *column) append(v value) {
	switch b := c.builder.(type) {
	case *array.Int64Builder:
		b.Append(v.integer)
	case *array.Uint64Builder:
		b.Append(v.uint)
	case *array.Float64Builder:
		b.Append(v.float)
	case *array.BooleanBuilder:
		b.Append(v.bool)
	case *array.StringBuilder:
		b.BinaryBuilder.Append(v.text)
	}
}

// addCells counts n cells (values and nulls) and reserves memory for them. Without the limit, a short body in which
// each point has a different field would need the square of its size.
func (p *Points) addCells(n int) error {
	before := p.cells
	p.cells += n
	if p.cells > maxCells {
		return p.errorAt(p.point, "the body has more than %d values, counting each field and tag of a measurement for each of its points: send fewer points at a time", maxCells)
	}
	if before == 0 || before/cellStep != p.cells/cellStep {
		return p.reserve(p.memory())
	}
	return nil
}

// memory returns the memory for the cells so far, in bytes.
func (p *Points) memory() int64 { return int64(p.cells/cellStep+1) * cellStep * cellBytes }

// errorAt returns an error for the line of the point at an offset.
func (p *Points) errorAt(point int, format string, args ...any) error {
	return lineError(p.lexer.lineOf(point), format, args...)
}

package pull

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/series"
)

const (
	maxManifest = 64 << 20 // bytes; enough for about 400,000 files
	maxLine     = 4 << 20  // bytes; the longest line is the header, which has the schema
	maxBefore   = 256      // number of previous versions that a manifest lists
)

// record describes a version of a table. Records are stored in the registry and in heads.
type record struct {
	Name     string `json:"name"`
	Table    string `json:"table"` // random ID of the table's history; a table that is deleted and created again gets a new one
	Version  int64  `json:"version"`
	Manifest string `json:"manifest"` // hash of the manifest
	Size     int64  `json:"size"`     // bytes of the manifest
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"` // bytes of the files
}

// keyOf returns the key of a table, a string that is valid in file names, URLs and the registry.
func keyOf(name string) string { return content.HashOf([]byte(name)) }

func (r record) manifestFile() content.HashNamed {
	return content.HashNamed{Hash: r.Manifest, Size: r.Size}
}

// holderValue returns the value that the registry has for a directory with version r (see registry).
func (r record) holderValue() string { return fmt.Sprintf("%d %s", r.Version, r.Manifest) }

// check validates a record that another process wrote for the table with the given key.
func (r record) check(key string) error {
	if keyOf(r.Name) != key || checkName(r.Name) != nil || r.Version < 1 || !isHash(r.Manifest) ||
		r.Size < 1 || r.Size > maxManifest || r.Rows < 0 || r.Bytes < 0 {
		return fmt.Errorf("the record of version %d, with a manifest of %d bytes, is invalid", r.Version, r.Size)
	}
	return nil
}

// manifest is a version of a table. In its encoded form, the first line is the header, and
// each further line describes one file.
type manifest struct {
	header
	schema *arrow.Schema
	time   int // index of the time column
	files  []dataFile
}

type header struct {
	Format  int    `json:"format,omitempty"` // always 0 so far, and therefore omitted
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Time    string `json:"time"` // name of the time column
	Schema  string `json:"schema"`

	Before []string `json:"before,omitempty"` // short names of the previous versions, oldest first
}

// shortName returns the name under which later manifests list version r in header.Before.
func (r record) shortName() string { return r.Manifest[:min(len(r.Manifest), 16)] }

// follows reports whether m descends from version r. It assumes so if r is too old for m.Before to list it.
func (m *manifest) follows(r record) bool {
	distance := m.Version - r.Version
	return distance > int64(len(m.Before)) || distance > 0 && m.Before[int64(len(m.Before))-distance] == r.shortName()
}

// dataFile is a Parquet file with rows sorted by time. A manifest lists its files in time
// order, and no time occurs in two files.
type dataFile struct {
	content.HashNamed
	Rows int64 `json:"rows"`
	Min  int64 `json:"min"` // smallest and largest time, in the time column's unit
	Max  int64 `json:"max"`
}

func (m *manifest) totals() (rows, size int64) {
	for _, f := range m.files {
		rows, size = rows+f.Rows, size+f.Size
	}
	return rows, size
}

func (m *manifest) encode(w io.Writer) (err error) {
	m.Schema, err = schema.Encode(m.schema)
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	err = e.Encode(m.header)
	for _, f := range m.files {
		err = errors.Join(err, e.Encode(f))
	}
	return err
}

// readManifest decodes the manifest b and checks that it is valid and belongs to the record want.
// Another node may have forged b. A forged manifest cannot exhaust memory: each valid line is longer than its decoded
// form, so the result is smaller than b.
func readManifest(b []byte, want record) (*manifest, error) {
	m := &manifest{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return nil, errors.Join(errors.New("the manifest is empty"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &m.header); err != nil {
		return nil, fmt.Errorf("decoding the manifest's header: %w", err)
	}
	if m.Format != 0 {
		return nil, fmt.Errorf("the manifest has format %d, which this program does not know: upgrade this node", m.Format)
	}
	if m.Name != want.Name || m.Version != want.Version {
		return nil, fmt.Errorf("the manifest describes version %d of %q, but the record describes version %d of %q", m.Version, m.Name, want.Version, want.Name)
	}
	decoded, err := decodeSchema(m.Schema)
	if err != nil {
		return nil, err
	}
	m.schema = decoded
	indices := decoded.FieldIndices(m.Time)
	if len(indices) != 1 || !isTime(decoded.Field(indices[0]).Type) {
		return nil, fmt.Errorf("the manifest's column %q is not a time column", m.Time)
	}
	m.time = indices[0]
	last := int64(math.MinInt64)
	for lines.Scan() {
		var f dataFile
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("decoding file %d of the manifest: %w", len(m.files)+1, err)
		}
		if !isHash(f.Hash) || f.Size < 1 || f.Rows < 1 || f.Min > f.Max || len(m.files) > 0 && f.Min <= last {
			return nil, fmt.Errorf("file %d of the manifest is invalid", len(m.files)+1)
		}
		last = f.Max
		m.files = append(m.files, f)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	return m, nil
}

// isHash reports whether s is a SHA-256 in lowercase hexadecimal.
func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}

func checkName(name string) error {
	if len(name) == 0 || len(name) > tables.MaxName {
		return &tables.ArgumentError{Err: fmt.Errorf("the name has %d bytes: use 1 to %d bytes", len(name), tables.MaxName)}
	}
	if !utf8.ValidString(name) {
		return &tables.ArgumentError{Err: fmt.Errorf("the name %q is not valid UTF-8", name)}
	}
	return nil
}

// decodeSchema decodes a schema that another node may have forged.
func decodeSchema(text string) (_ *arrow.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the manifest's schema is damaged: %v", p)
		}
	}()
	stream, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		_, err = arrowsafe.SchemaMessage(stream)
	}
	if err != nil {
		return nil, fmt.Errorf("decoding the manifest's schema: %w", err)
	}
	return schema.Decode(text)
}

func isTime(t arrow.DataType) bool { return t.ID() == arrow.TIMESTAMP || t.ID() == arrow.DATE32 }

var errNoTime = errors.New("the time column contains a null: every row needs a time")

// indexFrom returns the index of the first time at or after from. The times must be sorted.
func indexFrom(times arrow.Array, from int64) int {
	return sort.Search(times.Len(), func(i int) bool { return series.TimeAt(times, i) >= from })
}

// interval is a range [lo, hi] of times in the unit of a time column.
type interval struct{ lo, hi int64 }

var allTimes = interval{math.MinInt64, math.MaxInt64}

// interval converts the range [from, to) to the unit of the time column. If from or to is zero, that bound is missing.
func (m *manifest) interval(from, to time.Time) interval {
	times, t := allTimes, m.schema.Field(m.time).Type
	if !from.IsZero() {
		times.lo = series.CeilTicks(from, t)
	}
	if !to.IsZero() {
		times.hi = series.CeilTicks(to, t)
		if times.hi > math.MinInt64 {
			times.hi--
		}
	}
	return times
}

func (t interval) overlaps(f dataFile) bool { return f.Max >= t.lo && f.Min <= t.hi }

// rows returns the rows of b with times in the interval. It releases b, which must be sorted by time. column is the
// index of the time column.
func (t interval) rows(b arrow.RecordBatch, column int) (arrow.RecordBatch, error) {
	defer b.Release()
	times := b.Column(column)
	if times.NullN() > 0 {
		return nil, errNoTime
	}
	first, end := indexFrom(times, t.lo), times.Len()
	if t.hi < math.MaxInt64 {
		end = indexFrom(times, t.hi+1)
	}
	return b.NewSlice(int64(first), int64(max(first, end))), nil
}

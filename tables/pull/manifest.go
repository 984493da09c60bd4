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
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

const (
	maxManifest = 64 << 20 // bytes, which are about 400,000 files
	maxLine     = 4 << 20  // bytes of a line of a manifest: the schema's is the longest
	maxBefore   = 256      // versions before it that a manifest names
)

// record is what the registry and the heads have of a table's version.
type record struct {
	Name     string `json:"name"`
	Table    string `json:"table"` // the id of its first version: a table that is begun anew has another
	Version  int64  `json:"version"`
	Manifest string `json:"manifest"` // its hash
	Size     int64  `json:"size"`     // of the manifest, in bytes
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"` // of the files
}

// file is the manifest.
func (r record) file() content.Named { return content.Named{Hash: r.Manifest, Size: r.Size} }

// check looks at a record that came from elsewhere.
func (r record) check(key string) error {
	if keyOf(r.Name) != key || checkName(r.Name) != nil || r.Version < 1 || !isHash(r.Manifest) || r.Size < 1 || r.Size > maxManifest || r.Rows < 0 || r.Bytes < 0 {
		return fmt.Errorf("a record of version %d, whose manifest has %d bytes, makes no sense", r.Version, r.Size)
	}
	return nil
}

// manifest is a version: its first line is the header, and each other a file.
type manifest struct {
	header
	schema *arrow.Schema
	time   int // the time column's place
	files  []dataFile
}

type header struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Time    string `json:"time"` // the column
	Schema  string `json:"schema"`

	Before []string `json:"before,omitempty"` // the versions before, the last one last: the short names of their manifests
}

// short is a manifest's name within other manifests.
func (r record) short() string { return r.Manifest[:min(len(r.Manifest), 16)] }

// follows reports whether the version is upon an earlier one, as far back as it knows.
func (m *manifest) follows(r record) bool {
	back := m.Version - r.Version
	return back > int64(len(m.Before)) || back > 0 && m.Before[int64(len(m.Before))-back] == r.short()
}

// dataFile is a Parquet file, whose rows are in the order of time. Files are in that
// order, too, and no time is in two.
type dataFile struct {
	content.Named
	Rows int64 `json:"rows"`
	Min  int64 `json:"min"` // times, in the column's unit
	Max  int64 `json:"max"`
}

func (m *manifest) rows() (rows, size int64) {
	for _, f := range m.files {
		rows, size = rows+f.Rows, size+f.Size
	}
	return rows, size
}

func (m *manifest) encode(w io.Writer) (err error) {
	if m.Schema, err = schema.Encode(m.schema); err != nil {
		return err
	}
	e := json.NewEncoder(w)
	err = e.Encode(m.header)
	for _, f := range m.files {
		err = errors.Join(err, e.Encode(f))
	}
	return err
}

// readManifest reads what another node may have made up. A line that makes sense is
// longer than what is kept of it.
func readManifest(b []byte, of record) (*manifest, error) {
	m := &manifest{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return nil, errors.Join(errors.New("the manifest is empty"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &m.header); err != nil {
		return nil, fmt.Errorf("the manifest: %w", err)
	}
	if m.Name != of.Name || m.Version != of.Version {
		return nil, fmt.Errorf("the manifest is of version %d of %q, and not what the record says", m.Version, m.Name)
	}
	raw, err := decodeSchema(m.Schema)
	if err != nil {
		return nil, err
	}
	m.schema = raw
	at := raw.FieldIndices(m.Time)
	if len(at) != 1 || !isTime(raw.Field(at[0]).Type) {
		return nil, fmt.Errorf("the manifest's time column %q is none", m.Time)
	}
	m.time = at[0]
	last := int64(math.MinInt64)
	for lines.Scan() {
		var f dataFile
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("the manifest's file %d: %w", len(m.files)+1, err)
		}
		if !isHash(f.Hash) || f.Size < 1 || f.Rows < 1 || f.Min > f.Max || len(m.files) > 0 && f.Min <= last {
			return nil, fmt.Errorf("the manifest's file %d makes no sense", len(m.files)+1)
		}
		last = f.Max
		m.files = append(m.files, f)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the manifest: %w", err)
	}
	return m, nil
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}

// checkName says what a table may be called.
func checkName(name string) error {
	if len(name) == 0 || len(name) > tables.MaxName {
		return fmt.Errorf("a name has 1 to %d bytes, and this has %d", tables.MaxName, len(name))
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("the name %q is no UTF-8", name)
	}
	return nil
}

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
		return nil, fmt.Errorf("the manifest's schema: %w", err)
	}
	return schema.Decode(text)
}

func isTime(t arrow.DataType) bool {
	return t.ID() == arrow.TIMESTAMP || t.ID() == arrow.DATE32
}

var errNoTime = errors.New("the time column has a null: each row needs a time")

// firstFrom returns the first row of a sorted column whose time is not before another.
func firstFrom(times arrow.Array, from int64) int {
	return sort.Search(times.Len(), func(i int) bool { return series.TimeAt(times, i) >= from })
}

// bounds returns the first and the last time of a range in the unit of a column.
func bounds(m *manifest, from, to time.Time) (lo, hi int64) {
	lo, hi = math.MinInt64, math.MaxInt64
	t := m.schema.Field(m.time).Type
	if !from.IsZero() {
		lo = series.Tick(from, t)
	}
	if !to.IsZero() {
		if hi = series.Tick(to, t); hi > math.MinInt64 {
			hi--
		}
	}
	return lo, hi
}

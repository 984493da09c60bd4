package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd"
)

// A mended record has the fields of the ragged one, without those that were cut, and is a record without --ragged.
func TestMendedRecords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"", "a", "bc", `"q"`, `"x,y"`, "\"n\nl\"", `""""`, `b"c`}
	for _, layout := range []Layout{{Format: CSV}, {Format: TSV}, {Format: CSV, NoHeader: true, Sep: ";"}} {
		sep := string(layout.Separator())
		for range 300 {
			columns := 1 + r.IntN(5)
			var data strings.Builder
			for range 1 + r.IntN(8) {
				fields := make([]string, 1+r.IntN(7))
				for i := range fields {
					fields[i] = pieces[r.IntN(len(pieces))]
				}
				data.WriteString(strings.Join(fields, sep) + []string{"\n", "\r\n"}[r.IntN(2)])
			}
			names := make([]string, columns)
			ragged, wide := layout, layout
			ragged.Ragged = CutRagged
			s := NewFieldSplitter(ragged, names)
			s.Feed([]byte(data.String()), true)
			var filled, cut int64
			for kind := s.Next(); kind != More; kind = s.Next() {
				if kind == Blank {
					continue
				}
				if kind != Data {
					t.Fatalf("%q: kind %d, %v", data.String(), kind, s.Err)
				}
				want := splitRecord(t, wide, s.Record)
				if len(want) < columns {
					filled++
				} else if len(want) > columns {
					cut++
				} else if s.Whole != nil {
					t.Fatalf("%q was changed to %q", s.Record, s.Whole)
				}
				for len(want) < columns {
					want = append(want, "")
				}
				want = want[:columns]
				if got := texts(s.Values); !slices.Equal(got, want) {
					t.Fatalf("%q has values %q, want %q", s.Record, got, want)
				}
				if s.Whole == nil {
					continue
				}
				if got := splitRecord(t, wide, s.Whole); !slices.Equal(got, want) {
					t.Fatalf("%q was changed to %q, with values %q", s.Record, s.Whole, got)
				}
				if bytes.HasSuffix(s.Record, []byte("\r\n")) != bytes.HasSuffix(s.Whole, []byte("\r\n")) {
					t.Fatalf("%q was changed to %q, with another line ending", s.Record, s.Whole)
				}
			}
			if s.Mended != (Mended{filled, cut}) {
				t.Fatalf("%q: counts %v, want %d and %d", data.String(), s.Mended, filled, cut)
			}
		}
	}
}

// splitRecord returns the fields of a record with any number of fields.
func splitRecord(t *testing.T, layout Layout, record []byte) []string {
	s := NewFieldSplitter(layout, nil)
	s.Feed(record, true)
	if kind := s.Next(); kind == Blank {
		return []string{""} // a record with one column that Ragged has emptied
	} else if kind != Data {
		t.Fatalf("%q: kind %d, %v", record, kind, s.Err)
	}
	return texts(s.Values)
}

func texts(values [][]byte) (texts []string) {
	for _, v := range values {
		texts = append(texts, string(v))
	}
	return texts
}

// The header of a file can have any number of columns, so empty fields must not fill the memory.
func TestFilledBytesAreLimited(t *testing.T) {
	columns := make([]string, 1000)
	for i := range columns {
		columns[i] = fmt.Sprint("c", i)
	}
	read := func(records int) (Tally, error) {
		data := strings.Join(columns, ",") + "\n" + strings.Repeat("1\n", records)
		in := Input{Name: "f.csv", Size: -1, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }}
		cfg := Config{Layout: Layout{Format: CSV, Ragged: FillRagged}, Fields: []Field{{Index: 999}}, Columns: columns, Block: 8 << 10, MaxRecord: 64 << 10, SkipBad: true}
		return Read(t.Context(), []Input{in}, cfg, func(b *Block) error {
			for b.Next() {
				if len(b.Record) != 1001 || b.Fields[0] == nil || len(b.Fields[0]) != 0 {
					t.Errorf("record %q with the last field %q", b.Record, b.Fields[0])
				}
			}
			return nil
		})
	}
	if tally, err := read(16); err != nil || tally.Mended.Filled != 16 || !tally.Accounted() {
		t.Errorf("tally %+v, error %v", tally, err)
	}
	_, err := read(100)
	if !errors.Is(err, partd.ErrTooLarge) || !strings.Contains(err.Error(), "f.csv, line 34: ") {
		t.Errorf("error %v", err)
	}
}

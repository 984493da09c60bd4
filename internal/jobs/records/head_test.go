package records

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestReadStart(t *testing.T) {
	wide := make([]string, 30_000)
	for i := range wide {
		wide[i] = strings.Repeat("column", 3)
	}
	for _, c := range []struct {
		name, data string
		want       []string
	}{
		{"plain", "a,b c\n1,2\n", []string{"a", "b c"}},
		{"quoted, with a byte order mark, after an empty line", "\ufeff\r\n\"a,\"\"b\nc\",d\r\n", []string{"a,\"b\nc", "d"}},
		{"without a newline", "a,b", []string{"a", "b"}},
		{"wide", strings.Join(wide, ",") + "\n1\n", wide},
	} {
		start, err := ReadStart("f", iotest.OneByteReader(strings.NewReader(c.data)), Layout{Format: CSV}, 1<<20)
		if err != nil || !slices.Equal(start.Columns, c.want) || !strings.HasPrefix(c.data, string(start.Read)) ||
			!strings.Contains(c.data+"\n", string(start.Header)) || (len(start.Header) > 0) != (c.want != nil) {
			t.Errorf("%s: ReadStart = %.100v, %v, want the columns %.100q", c.name, start, err, c.want)
		}
	}
	for _, c := range []struct{ data, want string }{
		{"\xfd7zXZ\x00\x00", "f: not plain text: it looks xz-compressed; decompress it first: xz -dc FILE"},
		{"", "f: the file is empty, but its first line must contain the column names"},
		{"\ufeff", "f: " + ErrNoHeader.Error()},
		{"\r\n\n", "f: " + ErrNoHeader.Error()},
		{"a,\"b\n", "f, line 1: " + errUnclosed.Error()},
		{"\n\"a\"b\n", "f, line 2: " + errAfterQuote.Error()},
		{strings.Repeat("x", 200_000), "f, line 1: too large: the header is longer than 100000 bytes, a quarter of --memory"},
	} {
		if _, err := ReadStart("f", strings.NewReader(c.data), Layout{Format: CSV}, 100_000); err == nil || err.Error() != c.want {
			t.Errorf("ReadStart(%.20q) = %v, want %s", c.data, err, c.want)
		}
	}
	if _, err := ReadStart("f", strings.NewReader("PK\x03\x04"), Layout{Format: Text}, 1000); !errors.Is(err, ErrUnsupported) {
		t.Errorf("ReadStart of a zip archive = %v, want %v", err, ErrUnsupported)
	}
	if start, err := ReadStart("f", strings.NewReader("BZh is no magic\n"), Layout{Format: Text}, 1000); err != nil || len(start.Read) != 16 {
		t.Errorf("ReadStart of text that begins like bzip2 = %v, %v, want no error", start, err)
	}
	if _, err := ReadStart("f", iotest.ErrReader(partd.ErrClosed), Layout{Format: CSV}, 1000); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("ReadStart after a failed read = %v, want %v", err, partd.ErrClosed)
	}
}

// TestWideEncoding checks that UTF-16 and UTF-32 are recognized, but not text with NUL bytes.
func TestWideEncoding(t *testing.T) {
	// encode returns text with size bytes for each character, the most significant first if big is set.
	encode := func(text string, size int, big bool) (data string) {
		for _, c := range text {
			b := []byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)}[4-size:]
			if !big {
				slices.Reverse(b)
			}
			data += string(b)
		}
		return data
	}
	table := strings.Repeat("name,Stra\u00dfe,12\n", 600)
	russian := strings.Repeat("\u0438\u043c\u044f,1,22,333\n", 100)
	for _, c := range []struct{ data, want string }{
		{encode(table, 2, false), "UTF-16LE"},
		{encode(table, 2, true), "UTF-16BE"},
		{encode(table, 4, false), "UTF-32LE"},
		{encode(table, 4, true), "UTF-32BE"},
		{encode(russian, 2, false), "UTF-16LE"},
		{encode(russian, 2, true), "UTF-16BE"},
		{encode(russian, 4, false), "UTF-32LE"},
		{encode(russian, 4, true), "UTF-32BE"},
		{encode("a,b\n1,2\n", 2, false), "UTF-16LE"},
		{encode("a,b\n1,2\n", 2, true) + "x", "UTF-16BE"},
		{"\xff\xfe\x00\x00a\x00\x00\x00", "UTF-32"},
		{"\x00\x00\xfe\xff\x00\x00\x00a", "UTF-32"},
		{encode("a,b\n1,2", 2, false), ""}, // 7 NUL bytes
		{table, ""},
		{russian, ""},
		{strings.Repeat("key\x00value\n", 500), ""},
		{strings.Repeat("ab\x00", 500), ""}, // in even and odd places
		{strings.Repeat("\x00", 5000), ""},
		{strings.Repeat("\x00\n", 50) + strings.Repeat("\n\x00", 50), ""},
		{strings.Repeat("a", 4<<10) + encode(table, 2, false), ""}, // after the first 4 KiB
	} {
		if got := wideEncoding([]byte(c.data)); got != c.want {
			t.Errorf("wideEncoding(%.20q) = %q, want %q", c.data, got, c.want)
		}
	}
}

func TestResolve(t *testing.T) {
	csv, bare, jsonl := Layout{Format: CSV}, Layout{Format: CSV, NoHeader: true}, Layout{Format: JSONL}
	columns := []string{"a", "3", "b", "b"}
	for _, c := range []struct {
		l       Layout
		by      string
		columns []string
		want    Field
		err     string
	}{
		{csv, "a", columns, Field{Index: 0}, ""},
		{csv, "3", columns, Field{}, `"3" is the name of column 2, but also the number of column 3 ("b"): use -3 for column 2, or -2 for column 3; if the first record is not a header, add --no-header`},
		{csv, "-3", []string{"-3", "b", "c"}, Field{Index: 0}, ""}, // the same column by name and by number
		{csv, "7", []string{"b", "7"}, Field{Index: 1}, ""},        // no column has the number 7
		{csv, "4", columns, Field{Index: 3}, ""},
		{csv, "-4", columns, Field{Index: 0}, ""},
		{csv, "b", columns, Field{}, `columns 3 and 4 are both named "b": use one of the numbers`},
		{csv, "c", columns, Field{}, `no column is named "c"; the columns are 1 "a", 2 "3", 3 "b", 4 "b"`},
		{csv, "upper(a)", columns, Field{}, `no column is named "upper(a)"; the parts of a column are after, before, day, lower, month, nfc, prefix; the columns are 1 "a", 2 "3", 3 "b", 4 "b"`},
		{csv, "a b(c)", columns, Field{}, `no column is named "a b(c)"; the columns are 1 "a", 2 "3", 3 "b", 4 "b"`},
		{csv, "5", columns, Field{}, `there is no column 5; the columns are 1 "a", 2 "3", 3 "b", 4 "b"`},
		{csv, "-5", columns, Field{}, `there is no column -5; the columns are 1 "a", 2 "3", 3 "b", 4 "b"`},
		{csv, "0", columns, Field{}, "there is no field 0: fields are numbered from 1, or from the end (-1 is the last)"},
		{bare, "-1", nil, Field{Index: -1}, ""},
		{bare, "2", nil, Field{Index: 1}, ""},
		{bare, "a", nil, Field{}, `without a header, a field must be a number from 1, or from the end (-1 is the last), not "a"`},
		{jsonl, "7", nil, Field{Name: "7"}, ""},
		{Layout{Format: Text}, "-2", []string{"1", "2", "3"}, Field{Index: -2}, ""}, // other records can have more or fewer fields
		{Layout{Format: Text}, "5", []string{"1", "2", "3"}, Field{Index: 4}, ""},
	} {
		got, err := c.l.Resolve(c.by, c.columns)
		if text := ""; got != c.want || err != nil && err.Error() != c.err || err == nil && c.err != text {
			t.Errorf("Resolve(%q, %q) = %+v, %v, want %+v, %s", c.by, c.columns, got, err, c.want, c.err)
		}
	}
}

func TestLayout(t *testing.T) {
	for name, want := range map[string]Format{"a.csv": CSV, "b.TSV": TSV, "c.tab": TSV, "d.jsonl": JSONL, "e.ndjson": JSONL, "f": Text, "g.txt": Text} {
		if got := FormatOf(name); got != want {
			t.Errorf("FormatOf(%q) = %s, want %s", name, got, want)
		}
	}
	if f, err := ParseFormat("jsonl"); f != JSONL || err != nil {
		t.Errorf("ParseFormat(jsonl) = %s, %v, want JSONL", f, err)
	}
	for _, name := range []string{"", "CSV", "xml"} {
		must.Fail(t, must.Err(ParseFormat(name)), FormatNames, "ParseFormat(%q)", name)
	}
	for _, l := range []Layout{{Format: TSV, Sep: ","}, {Format: JSONL, Sep: ","}, {Format: CSV, Sep: "ab"}, {Format: CSV, Sep: "\""}, {Format: Text, Sep: "a\n"}} {
		if l.Check() == nil {
			t.Errorf("Check of %+v returned no error", l)
		}
	}
	if got := DiffColumns([]string{"a", "b"}, []string{"a", "c", "d"}); got != `column 2: "b" and "c"; column 3: none and "d"` {
		t.Errorf("DiffColumns = %s, want the columns 2 and 3", got)
	}
}

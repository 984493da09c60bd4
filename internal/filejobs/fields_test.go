package filejobs

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

func TestSplitNames(t *testing.T) {
	columns := []string{"a", "b,c", "d\"e", "a,b"}
	for list, want := range map[string][]string{
		"a": {"a"}, "a,2,-1": {"a", "2", "-1"}, `"b,c",a`: {"b,c", "a"}, `"d""e"`: {`d"e`}, `"b,c":n:desc,a`: {"b,c:n:desc", "a"},
		"a,b": {"a,b"}, `x"y`: {`x"y`}, "": {""},
	} {
		if got, err := splitNames(list, columns); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", list, got, err)
		}
	}
	for _, list := range []string{`"a`, "a,,b", ",a", "a,", `""",a`} {
		if got, err := splitNames(list, columns); err == nil {
			t.Errorf("%s: %q", list, got)
		}
	}
}

// Keys of several fields sort like the fields, and splitKey returns the fields, wherever they are in memory.
func TestFieldKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	random := func() [][]byte {
		fields := make([][]byte, 2)
		for i := range fields {
			long := 4
			if r.IntN(4) == 0 {
				long = 20
			}
			fields[i] = make([]byte, 0, r.IntN(30))
			letters := "\x00\x01\xffa"[r.IntN(2):]
			for range r.IntN(long) {
				fields[i] = append(fields[i], letters[r.IntN(len(letters))])
			}
		}
		return fields
	}
	for range 50_000 {
		a, b := random(), random()
		key, other := appendKey(nil, a, nil), appendKey(nil, b, nil)
		want := bytes.Compare(a[0], b[0])
		if want == 0 {
			want = bytes.Compare(a[1], b[1])
		}
		if got := bytes.Compare(key, other); got != want {
			t.Fatalf("%q and %q: %d, want %d", a, b, got, want)
		}
		if got := splitKey(nil, key); !slices.EqualFunc(got, a, func(v output.Value, f []byte) bool { return bytes.Equal(v.Text, f) }) {
			t.Fatalf("%q became %v", a, got)
		}
	}
}

func TestOrderedField(t *testing.T) {
	for text, want := range map[string]struct {
		name string
		o    fieldOrder
	}{
		"a": {"a", fieldOrder{}}, "a:n": {"a", fieldOrder{numeric: true}}, "a:desc:n": {"a", fieldOrder{numeric: true, desc: true}},
		"x:n": {"x:n", fieldOrder{}}, "x:n:n": {"x:n", fieldOrder{numeric: true}}, "a:asc": {"a", fieldOrder{asc: true}}, "a:b": {"a:b", fieldOrder{}},
	} {
		if name, o := orderedField(text, []string{"a", "x:n"}); name != want.name || o != want.o {
			t.Errorf("%s: %s, %+v", text, name, o)
		}
	}
	if name, _ := orderedField(strings.Repeat(":n", 50), nil); name != "" {
		t.Errorf("%q", name)
	}
}

// A key is written like its fields with separators, unless a field needs quotes.
func TestPlainKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	plainly := 0
	for i := range 100_000 {
		layout := records.Layout{Format: records.CSV}
		if i%2 == 0 {
			layout.Format = records.TSV
		}
		rows, err := output.NewRows(layout, nil)
		if err != nil {
			t.Fatal(err)
		}
		fields := make([][]byte, 1+r.IntN(3))
		for i := range fields {
			for range r.IntN(5) {
				fields[i] = append(fields[i], "abc;\xff\x01\x02\x00,\t\r\n\""[r.IntN(1+r.IntN(13))])
			}
		}
		key := fields[0]
		if len(fields) > 1 {
			key = appendKey(nil, fields, nil)
		}
		var want []byte
		for i, f := range fields {
			want, _ = rows.AppendStart(want, i)
			if want, err = rows.AppendField(want, i, &output.Value{Text: f}); err != nil {
				break
			}
		}
		got, ok := appendPlainKey([]byte("before"), key, len(fields) == 1, rows.Plain())
		if ok && (err != nil || string(got) != "before"+string(want)) {
			t.Fatalf("%q became %q, want %q, %v", fields, got, want, err)
		}
		if !ok && !bytes.ContainsAny(bytes.Join(fields, nil), "\x00,\t\r\n\"") {
			t.Fatalf("%q was not written", fields)
		}
		if ok {
			plainly++
		}
	}
	if plainly < 10_000 {
		t.Errorf("only %d keys could be written unchanged", plainly)
	}
}

package filejobs

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

func TestSplitNames(t *testing.T) {
	columns := []string{"a", "b,c", "d\"e", "a,b", "c", "c,a", "x as y"}
	for list, want := range map[string][]string{
		"a": {"a"}, "a,2,-1": {"a", "2", "-1"}, `"b,c",a`: {"b,c", "a"}, `"d""e"`: {`d"e`}, `"b,c":n:desc,a`: {"b,c|:n:desc", "a"}, `"a:n"`: {"a:n"}, `a:n`: {"a:n"}, `"day(a)"`: {"day(a)"}, `"a"x`: {"a|x"},
		"a,b": {"a,b"}, "a,b,c": {"a,b", "c"}, "c,a": {"c", "a"}, "c,a,b": {"c", "a,b"}, `"c,a",b`: {"c,a", "b"}, `x"y`: {`x"y`}, "": {""},
		`a as x,"b,c" as "y, z",c AS v`: {"a/x", "b,c/y, z", "c/v"}, "x as y,x as y as z": {"x as y", "x as y/z"},
	} {
		names, err := splitNames(list, columns)
		var got []string
		for _, name := range names {
			if name.suffix != "" {
				name.text += "|" + name.suffix
			}
			if name.alias != "" {
				name.text += "/" + name.alias
			}
			got = append(got, name.text)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("splitNames(%q) = %q, %v, want %q", list, got, err, want)
		}
	}
	for _, list := range []string{`"a`, "a,,b", ",a", "a,", `""",a`, "a as ", `a as "x`, `a as "x" y`} {
		if got, err := splitNames(list, columns); err == nil {
			t.Errorf("splitNames(%q) = %v, want an error", list, got)
		}
	}
}

// TestFieldKeys checks that keys of several fields sort like the fields, and splitKey returns the fields, whatever
// bytes follow the fields in memory.
func TestFieldKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	randomFields := func() [][]byte {
		fields := make([][]byte, 2)
		for i := range fields {
			maxLen := 4
			if r.IntN(4) == 0 {
				maxLen = 20
			}
			fields[i] = make([]byte, 0, r.IntN(30))
			letters := "\x00\x01\xffa"[r.IntN(2):]
			for range r.IntN(maxLen) {
				fields[i] = append(fields[i], letters[r.IntN(len(letters))])
			}
		}
		return fields
	}
	for range 50_000 {
		a, b := randomFields(), randomFields()
		key, otherKey := AppendKey(nil, a, nil), AppendKey(nil, b, nil)
		if f := a[0]; len(f) <= 6 {
			padded := append(slices.Clone(f), "\x00following"[r.IntN(2):]...)
			word, ok := ShortKey(binary.LittleEndian.Uint64(padded), len(f))
			got, want := binary.LittleEndian.AppendUint64(nil, word)[:len(f)+2], AppendKey(nil, a[:1], nil)
			if ok == bytes.Contains(f, []byte{0}) || ok && !bytes.Equal(got, want) {
				t.Fatalf("ShortKey(%q) = %q, %v, want %q", padded, got, ok, want)
			}
		}
		want := bytes.Compare(a[0], b[0])
		if want == 0 {
			want = bytes.Compare(a[1], b[1])
		}
		if got := bytes.Compare(key, otherKey); got != want {
			t.Fatalf("the keys of %q and %q have the order %d, want %d", a, b, got, want)
		}
		if got := splitKey(nil, key); !slices.EqualFunc(got, a, func(v output.Value, f []byte) bool { return bytes.Equal(v.Text, f) }) {
			t.Fatalf("splitKey of the key of %q = %v, want the same fields", a, got)
		}
	}
}

func TestOrderedField(t *testing.T) {
	for text, want := range map[string]struct {
		name string
		o    FieldOrder
	}{
		"a": {"a", FieldOrder{}}, "a:n": {"a", FieldOrder{Numeric: true}}, "a:desc:n": {"a", FieldOrder{Numeric: true, Desc: true}},
		"x:n": {"x:n", FieldOrder{}}, "x:n:n": {"x:n", FieldOrder{Numeric: true}}, "a:asc": {"a", FieldOrder{Asc: true}}, "a:b": {"a:b", FieldOrder{}},
	} {
		if name, o := OrderedField(text, []string{"a", "x:n"}); name != want.name || o != want.o {
			t.Errorf("OrderedField(%q) = %s, %+v, want %+v", text, name, o, want)
		}
	}
	if name, _ := OrderedField(strings.Repeat(":n", 50), nil); name != "" {
		t.Errorf("OrderedField of 50 times :n returns the field %q, want none", name)
	}
}

// TestPlainKeys checks that AppendPlainKey either writes the same bytes as writing each of the key's fields and the
// separators, or reports that a field needs quotes.
func TestPlainKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	plainKeys := 0
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
				fields[i] = append(fields[i], "abc;\xff\x01\x02\xef \x00,\t\r\n\""[r.IntN(1+r.IntN(15))])
			}
		}
		key := fields[0]
		if len(fields) > 1 {
			key = AppendKey(nil, fields, nil)
		}
		var want []byte
		for i, f := range fields {
			want, _ = rows.AppendStart(want, i)
			if want, err = rows.AppendField(want, i, &output.Value{Text: f}); err != nil {
				break
			}
		}
		got, ok := AppendPlainKey([]byte("before"), key, len(fields) == 1, rows.Plain())
		if ok && (err != nil || string(got) != "before"+string(want)) {
			t.Fatalf("AppendPlainKey of the key of %q = %q, want %q, %v", fields, got, want, err)
		}
		quotedFirst := layout.Format == records.CSV && slices.ContainsFunc(fields, func(f []byte) bool { return len(f) > 0 && strings.IndexByte(textfmt.QuotedFirst, f[0]) >= 0 })
		if !ok && !quotedFirst && !bytes.ContainsAny(bytes.Join(fields, nil), "\x00,\t\r\n\"") {
			t.Fatalf("AppendPlainKey did not write the key of %q", fields)
		}
		if ok {
			plainKeys++
		}
	}
	if plainKeys < 10_000 {
		t.Errorf("AppendPlainKey wrote only %d keys, want at least 10000", plainKeys)
	}
}

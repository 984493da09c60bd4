package filejobs

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/output"
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

// Keys of several fields order as the fields do, and give them back.
func TestFieldKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	random := func() [][]byte {
		fields := make([][]byte, 2)
		for i := range fields {
			for range r.IntN(4) {
				fields[i] = append(fields[i], "\x00\x01\xffa"[r.IntN(4)])
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

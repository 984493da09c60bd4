package pickle

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/plain"
)

func TestRefused(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		// What calls functions. The first is what every attack begins with.
		{"cos\nsystem\n(S'touch x'\ntR.", `"system" of the module "os"`},
		{"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.", `"system" of the module "posix"`},
		{"cbuiltins\neval\n(V1\ntR.", `"eval" of the module "builtins"`},
		{"c_codecs\ndecode\n(V1\nVlatin1\ntR.", `"decode" of the module "_codecs"`},
		{"c__builtin__\nset\n.", "a function is no plain value"},
		{"(c__builtin__\nset\nl.", "a function is no plain value"},
		{"c__builtin__\nset\n(VA\ntR.", "arguments that make no plain value"},
		{"c_codecs\nencode\n(V1\nVrot13\ntR.", "encoding other than latin1"},
		{"c_codecs\nencode\n(V\\u0100\nVlatin1\ntR.", "a character that is no byte"},
		{"]]R.", "what is no function"},
		{"c__builtin__\nset\n]R.", "without a tuple"},
		{"(iposix\nsystem\n.", "INST"},
		{"(cos\nsystem\no.", `"system" of the module "os"`},
		{"(]o.", "OBJ"},
		{"])\x81.", "NEWOBJ"},
		{"])}\x92.", "NEWOBJ_EX"},
		{"]}b.", "BUILD"},
		{"Pname\n.", "PERSID"},
		{"]Q.", "BINPERSID"},
		{"\x82\x01.", "EXT1"},
		{"\x83\x01\x00.", "EXT2"},
		{"\x84\x01\x00\x00\x00.", "EXT4"},
		{"\x97.", "NEXT_BUFFER"},
		{"]\x98.", "READONLY_BUFFER"},
		{"K\x01K\x01\x93.", "STACK_GLOBAL without a name"},
		{"\xff.", "0xff is no instruction"},
		{"\x80\x06N.", "protocol 6"},
		// What claims more than there is.
		{"X\xff\xff\xff\xff.", "of 4294967295"},
		{"B\xff\xff\xff\xff.", "of 4294967295"},
		{"T\xff\xff\xff\xff.", "of 4294967295"},
		{"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "of 18446744073709551615"},
		{"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "of 9223372036854775807"},
		{"\x96\x00\x00\x00\x00\x01\x00\x00\x00.", "of 4294967296"},
		{"\x8b\xff\xff\xff\xff.", "of 4294967295"},
		{"\x95\x02\x00\x00\x00\x00\x00\x00\x00.", "a frame of 2 bytes, and 1 are left"},
		// What is no program.
		{"", "ends too early"},
		{"N", "ends too early"},
		{".", "more from the stack"},
		{"(.", "more from the stack"},
		{"a.", "more from the stack"},
		{"]a.", "more from the stack"},
		{"](a.", "more from the stack"},
		{"Na.", "more from the stack"},
		{"K\x01K\x01a.", "for a list are added to something else"},
		{"}(K\x01u.", "a key without a value"},
		{"(K\x01d.", "a key without a value"},
		{"}](K\x01K\x02u.", "for a dict are added to something else"},
		{"t.", "no mark"},
		{"e.", "no mark"},
		{"0.", "more from the stack"},
		{"2.", "more from the stack"},
		{"R.", "more from the stack"},
		{"\x93.", "more from the stack"},
		{"h\x00.", "nothing was put into the memo under 0"},
		{"j\xff\xff\xff\xff.", "nothing was put into the memo under 4294967295"},
		{"g9\n.", "nothing was put into the memo under 9"},
		{"gx\n.", "is no number of the memo"},
		{"q\x00.", "nothing to put into the memo"},
		{"\x94.", "nothing to put into the memo"},
		{"N.N", "1 bytes follow the end"},
		// What is no value.
		{"\x8c\x01\xff.", "not UTF-8"},
		{"\x8c\x03\xed\x9f\xff.", "not UTF-8"},
		{"U\x01\xe9.", "not ASCII"},
		{"S'\\xe9'\n.", "not ASCII"},
		{"Sx\n.", "no quotes"},
		{"S'\n.", "no quotes"},
		{"S'\\'\n.", "ends with a backslash"},
		{"S'\\xz9'\n.", "is no character"},
		{"V\\u12\n.", "is no character"},
		{"V\\U00110000\n.", "is no character"},
		{"Ix\n.", "is no integer"},
		{"I1_0\n.", "is no integer"},
		{"L1x\n.", "is no integer"},
		{"L" + strings.Repeat("9", maxDigits+1) + "L\n.", "the limit is"},
		{"Fx\n.", "is no float"},
		{"F0x1p3\n.", "is no float"},
		{"F1_0\n.", "is no float"},
		{"}]Ns.", "a list cannot be a key"},
		{"}(]]tNs.", "a list cannot be a key"},
		{"\x8f(}\x90.", "a dict cannot be a key"},
		// What contains itself: a list, a tuple by way of a list, a dict.
		{"]q\x00h\x00a.", "a list that contains itself"},
		{"(]q\x00tq\x01h\x00h\x01a0.", "contains itself"},
		{"}q\x00K\x01h\x00s.", "a dict that contains itself"},
		{strings.Repeat("]", 1100) + strings.Repeat("a", 1099) + ".", "nested more than 1000 deep"},
	} {
		v, err := Decode([]byte(c.data))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: got %v, %v, want %q", c.data, v, err, c.want)
		}
	}
}

// Depth counts however a value is put together: here each list is complete
// before it is put into the next, and the walk comes to the deepest first.
func TestDepthThroughMemo(t *testing.T) {
	var b strings.Builder
	b.WriteString("]r\x00\x00\x00\x00")
	for n := 1; n < 1200; n++ {
		fmt.Fprintf(&b, "0]j%s", number(n-1))
		fmt.Fprintf(&b, "ar%s", number(n))
	}
	// A list of all of them: each is short when the walk comes to it.
	b.WriteString("0](")
	for n := range 1200 {
		fmt.Fprintf(&b, "j%s", number(n))
	}
	b.WriteString("e.")
	if _, err := Decode([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "nested more than 1000") {
		t.Fatalf("got %v", err)
	}
}

func number(n int) string { return string(le.AppendUint32(nil, uint32(n))) }

func TestOldForms(t *testing.T) {
	for data, want := range map[string]any{
		"I01\n.":                           true,
		"I00\n.":                           false,
		"I-7\n.":                           int64(-7),
		"L12L\n.":                          int64(12),
		"L12\n.":                           int64(12),
		"F1e999\n.":                        math.Inf(1),
		"Fnan\n.":                          math.NaN(),
		"S'a\\tb\\x41\\101\\q\\'\\n'\n.":   "a\tbAA\\q'\n",
		"S\"it's\"\n.":                     "it's",
		"U\x02ab.":                         "ab",
		"T\x02\x00\x00\x00ab.":             "ab",
		"Va\\\\u0041\\u20ac\\U0001f600\n.": "a\\\\u0041€😀",
		"V\xe9\\ud800\n.":                  "é\xed\xa0\x80",
		"c__builtin__\nbytes\n)R.":         []byte{},
		"c__builtin__\nbytearray\n)R.":     plain.ByteArray{},
		"cbuiltins\nfrozenset\n)R.":        plain.FrozenSet{},
		"\x8b\x00\x00\x00\x00.":            int64(0),
		"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.": new(big.Int).Lsh(big.NewInt(1), 64),
		"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\xff.": int64(-1),
		"(N(K\x011K\x02K\x0320l.":                       []any{nil, int64(2), int64(3)},
		"(K\x01(0K\x02l.":                               []any{int64(1), int64(2)},
		// 1, 1.0 and true are one key: it stays, and gets the last value.
		"}(K\x01VA\nG\x3f\xf0\x00\x00\x00\x00\x00\x00VB\n\x88VC\nu.": plain.Dict{{Key: int64(1), Value: "C"}},
		"\x8f(VA\nC\x01AVA\n\x90.":                                   plain.Set{"A", []byte("A")},
	} {
		got, err := Decode([]byte(data))
		if err != nil || describe(got) != describe(want) {
			t.Errorf("%q: got %#v, %v, want %#v", data, got, err, want)
		}
	}
}

// A container that is used twice is one; where it was added to later, it shows
// in both places.
func TestShared(t *testing.T) {
	v, err := Decode([]byte("(]q\x00h\x00K\x01a0h\x00l."))
	if err != nil {
		t.Fatal(err)
	}
	list := v.([]any)
	if describe(v) != "[[i1],[i1]]" {
		t.Fatal(describe(v))
	}
	list[0].([]any)[0] = "changed"
	if list[1].([]any)[0] != "changed" {
		t.Error("a shared list was copied")
	}
}

// doubling is a list of two of the same list of two … : 2^n elements.
func doubling(n int) []byte {
	var b strings.Builder
	b.WriteString("]\x94")
	for i := range n {
		b.Write([]byte{'0', ']', '(', 'h', byte(i), 'h', byte(i), 'e', 'q', byte(i + 1)})
	}
	return append([]byte(b.String()), '.')
}

func TestBombs(t *testing.T) {
	if _, err := Decode(doubling(20)); err != nil {
		t.Errorf("2^20 elements: %v", err)
	}
	shared := strings.Repeat("x", 20_000)
	for name, data := range map[string]string{
		"doubled 30 times":          string(doubling(30)),
		"doubled 200 times":         string(doubling(200)),
		"tuple as key doubled":      tupleKey(40),
		"text copied by calls":      "c_codecs\nencode\nq\x00(X" + number(20_000) + shared + "q\x010(" + strings.Repeat("h\x00(h\x01Vlatin1\ntR", 4000) + "l.",
		"list copied by calls":      "c__builtin__\nset\nq\x00(](" + strings.Repeat("N", 20_000) + "eq\x010(" + strings.Repeat("h\x00h\x01\x85R", 4000) + "l.",
		"long text in many dicts":   "(X" + number(20_000) + shared + "q\x00" + strings.Repeat("}(h\x00NVb\nNu", 60_000) + "l.",
		"long text in many sets":    "(X" + number(20_000) + shared + "q\x00" + strings.Repeat("\x8f(h\x00N\x90", 60_000) + "l.",
		"long text in many keys":    "}(X" + number(20_000) + shared + "q\x000" + manyKeys("h\x00J%s\x86N", 60_000) + "u.",
		"long bytes in many keys":   "}(B" + number(20_000) + shared + "q\x000" + manyKeys("h\x00J%s\x86N", 60_000) + "u.",
		"long bytes as keys":        "(B" + number(20_000) + shared + "q\x00" + strings.Repeat("}(h\x00Nh\x00Nu", 60_000) + "l.",
		"long number in many dicts": "(\x8b" + number(20_000) + shared + "q\x00" + strings.Repeat("}h\x00Ns", 60_000) + "l.",
	} {
		start := time.Now()
		bytes, _, err := allocated([]byte(data))
		t.Logf("%s: %v, %d bytes for %d", name, time.Since(start), bytes, len(data))
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if bytes > MaxGrowth*uint64(len(data))+1<<20 {
			t.Errorf("%s: %d bytes for %d", name, bytes, len(data))
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: %v for %d bytes", name, took, len(data))
		}
	}
}

// manyKeys repeats a form, each time with another number in it.
func manyKeys(form string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Replace(form, "%s", number(i), 1))
	}
	return b.String()
}

// tupleKey is a dict with a key that is a tuple of two tuples of two …
func tupleKey(n int) string {
	b := []byte("}(K\x01q\x00")
	for i := range n {
		b = append(b, '0', '(', 'h', byte(i), 'h', byte(i), 't', 'q', byte(i+1))
	}
	return string(append(b, "Nu."...))
}

// allocated returns how many bytes of memory it takes to decode data, those
// included that are free again at the end.
func allocated(data []byte) (uint64, any, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v, err := Decode(data)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, v, err
}

// Each instruction, over and over: none takes more memory than is said.
func TestMemoryIsBounded(t *testing.T) {
	most := 0.0
	for _, part := range []string{
		"N", "]", "}", ")", "\x8f", "(", "2", "]\x94", "K\x01", "K\xff", "M\xff\xff", "J\xff\xff\xff\xff", "G12345678", "\x8a\x00",
		"\x8a\x09123456789", "\x8c\x00", "\x8c\x01a", "\x8c\x03\xe2\x82\xac", "C\x00", "C\x01a", "X\x01\x00\x00\x00a", "I1\n", "I01\n", "L1L\n", "F1\n", "V\n",
		"V\xe9\n", "Va\\\n", "Va\n", "S''\n", "U\x00", "\x96\x01\x00\x00\x00\x00\x00\x00\x00a", "N\x85", "NN\x86", "N\x85\x85", "(t", "(l", "(d", "(\x91", "]Na", "]NaNa",
		"}K\x01Ns", "}NNs", "}VA\nNs", "}(NNK\x01Nu", "}(K\x01NK\x02NK\x03Nu", "\x8f(N\x90", "\x8f(NK\x01\x90", "](N" + "e", "Nq\x000", "Nr\xff\xff\xff\xff0",
		"c__builtin__\nset\n)R", "c__builtin__\nbytes\n)R", "})Ns", "}(N\x85Nu", "}(N\x85N)Nu", "(N\x91", "(N\x85)\x91",
	} {
		for _, wrap := range []string{"%s.", "(%sl.", "(%s", "](%se.", "\x8f(%s\x90."} {
			data := []byte(fmt.Sprintf(wrap, strings.Repeat(part, 20_000/len(part)*3)))
			bytes, _, _ := allocated(data)
			factor := (float64(bytes) - 64<<10) / float64(len(data))
			if factor > MaxGrowth {
				t.Errorf("%q in %q: %.0f times its %d bytes", part, wrap, factor, len(data))
			}
			most = max(most, factor)
		}
	}
	t.Logf("at most %.0f times", most)
	if most < 20 {
		t.Errorf("at most %.0f times: this measures nothing", most)
	}
}

func TestNumbersOfMemoAnyOrder(t *testing.T) {
	v, err := Decode([]byte("(VA\nr\xff\xff\xff\xffVB\nq\x07j\xff\xff\xff\xffh\x07VC\nq\x00VD\n\x94h\x00l."))
	if err != nil || describe(v) != "[s41,s42,s41,s42,s43,s44,s43]" {
		t.Fatalf("%v, %v", v, err)
	}
}

func TestEachPrefixIsAnError(t *testing.T) {
	data, err := Append(nil, []any{1, "text", plain.Dict{{Key: "a", Value: 2.5}}, plain.Tuple{1, 2, 3, 4}, big.NewInt(0).Lsh(big.NewInt(1), 90), plain.Set{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if v, err := Decode(data[:n]); err == nil {
			t.Errorf("%q: %v", data[:n], v)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	self := []any{nil}
	self[0] = self
	tuple := plain.Tuple{nil}
	tuple[0] = tuple
	type structure struct{ A int }
	for _, c := range []struct {
		v    any
		want string
	}{
		{"\xff", "is not UTF-8"},
		{structure{}, "is no plain value"},
		{make(chan int), "is no plain value"},
		{[]any{func() {}}, "is no plain value"},
		{self, "contains itself"},
		{plain.Dict{{Key: tuple}}, "contains itself"},
		{plain.Dict{{Key: []any{}}}, "a list cannot be a key"},
		{plain.Dict{{Key: []int{}}}, "a list cannot be a key"},
		{plain.Set{plain.Tuple{plain.Dict{}}}, "a dict cannot be a key"},
		{plain.FrozenSet{plain.Set{}}, "a set cannot be a key"},
		{plain.Dict{{Key: plain.ByteArray{}}}, "a bytearray cannot be a key"},
	} {
		b, err := Append([]byte("before"), c.v)
		if err == nil || !strings.Contains(err.Error(), c.want) || string(b) != "before" {
			t.Errorf("%T: %q, %v, want %q", c.v, b, err, c.want)
		}
	}
}

// Other Go types stand for plain values.
func TestAppendTakesGoTypes(t *testing.T) {
	type name string
	n := int32(7)
	for _, c := range []struct{ v, want any }{
		{[]int{1, 2}, []any{int64(1), int64(2)}},
		{[2]string{"a", "b"}, []any{"a", "b"}},
		{map[string]int{"b": 2, "a": 1}, plain.Dict{{Key: "a", Value: int64(1)}, {Key: "b", Value: int64(2)}}},
		{map[uint8]bool{2: true, 1: false}, plain.Dict{{Key: int64(1), Value: false}, {Key: int64(2), Value: true}}},
		{map[int]string{-1: "", 1: ""}, plain.Dict{{Key: int64(-1), Value: ""}, {Key: int64(1), Value: ""}}},
		{name("x"), "x"},
		{float32(0.5), 0.5},
		{uint64(1 << 63), new(big.Int).SetUint64(1 << 63)},
		{(*big.Int)(nil), nil},
		{(*int)(nil), nil},
		{&n, nil},
		{[][]byte{[]byte("b")}, []any{[]byte("b")}},
	} {
		b, err := Append(nil, c.v)
		if c.v == any(&n) {
			if err == nil {
				t.Error("a pointer was written")
			}
			continue
		}
		if err != nil {
			t.Errorf("%T: %v", c.v, err)
			continue
		}
		if got, err := Decode(b); err != nil || describe(got) != describe(c.want) {
			t.Errorf("%T: %v, %v", c.v, got, err)
		}
	}
}

package pickle

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// pushFunction returns the instructions that push a function.
func pushFunction(module, name string) string {
	return fmt.Sprintf("\x8c%c%s\x8c%c%s\x93", len(module), module, len(name), name)
}

var newByteArray = pushFunction("builtins", "bytearray")

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		// Pickles that call functions. The first is a typical attack.
		{"cos\nsystem\n(\x8c\x07touch xtR.", "GLOBAL (a class or function)"},
		{"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.", `"system" from the module "posix"`},
		{pushFunction("builtins", "eval") + "\x8c\x011\x85R.", `"eval" from the module "builtins"`},
		{pushFunction("builtins", "set") + ")R.", `"set" from the module "builtins"`},
		{pushFunction("__builtin__", "bytearray") + ")R.", `from the module "__builtin__"`},
		{newByteArray + ".", "a function is not a plain value"},
		{"](" + newByteArray + "e.", "a function is not a plain value"},
		{newByteArray + "\x8c\x01A\x85R.", "arguments that bytearray does not accept"},
		{newByteArray + "C\x01AC\x01A\x86R.", "arguments that bytearray does not accept"},
		{"]]R.", "something that is not a function"},
		{newByteArray + "]R.", "without a tuple"},
		{"(iposix\nsystem\n.", "INST"},
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
		{"\xff.", "0xff is not a pickle instruction"},
		{"I1\n.", "0x49 is not a pickle instruction in protocol 4 or 5"},
		{"\x80\x03N.", "protocol 3: only protocols 4 and 5 are supported"},
		{"\x80\x06N.", "protocol 6: only protocols 4 and 5 are supported"},
		// Lengths beyond the end.
		{"X\xff\xff\xff\xff.", "instead of 4294967295"},
		{"B\xff\xff\xff\xff.", "instead of 4294967295"},
		{"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "instead of 18446744073709551615"},
		{"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "instead of 9223372036854775807"},
		{"\x96\x00\x00\x00\x00\x01\x00\x00\x00.", "instead of 4294967296"},
		{"\x8b\xff\xff\xff\xff.", "instead of 4294967295"},
		{"\x95\x02\x00\x00\x00\x00\x00\x00\x00.", "a frame of 2 bytes, but only 1 follow"},
		// Invalid programs.
		{"", "ends too early"},
		{"N", "ends too early"},
		{".", "more elements than the stack has"},
		{"(.", "more elements than the stack has"},
		{"a.", "more elements than the stack has"},
		{"]a.", "more elements than the stack has"},
		{"](a.", "more elements than the stack has"},
		{"Na.", "more elements than the stack has"},
		{"K\x01K\x01a.", "elements of a list are added to another type"},
		{"}(K\x01u.", "a key without a value"},
		{"}](K\x01K\x02u.", "elements of a dict are added to another type"},
		{"t.", "no mark"},
		{"e.", "no mark"},
		{"R.", "more elements than the stack has"},
		{"\x93.", "more elements than the stack has"},
		{"h\x00.", "the memo has no element 0"},
		{"j\xff\xff\xff\xff.", "the memo has no element 4294967295"},
		{"\x94.", "the stack has no element to put into the memo"},
		{"N.N", "1 bytes follow the pickle"},
		// Invalid values.
		{"\x8c\x01\xff.", "invalid UTF-8"},
		{"\x8c\x03\xed\x9f\xff.", "invalid UTF-8"},
		{"}]Ns.", "a list cannot be a key"},
		{"}(]]tNs.", "a list cannot be a key"},
		{"\x8f(}\x90.", "a dict cannot be a key"},
		// Containers that contain themselves: a list, a tuple through a list, a dict.
		{"]\x94h\x00a.", "a list that contains itself"},
		{"]\x94h\x00\x85a.", "contains itself"},
		{"(]\x94(t1h\x00.", "POP_MARK (a tuple that contains itself)"},
		{"]\x94(h\x000.", "POP (a tuple that contains itself)"},
		{"}\x94K\x01h\x00s.", "a dict that contains itself"},
		{strings.Repeat("]", 1100) + strings.Repeat("a", 1099) + ".", "nested more than 1000 levels deep"},
	} {
		v, err := Decode([]byte(c.data))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Decode(%.60q) = %v, %v, want an error with %q", c.data, v, err, c.want)
		}
	}
}

// TestDepthThroughMemo checks that the depth limit does not depend on the order of construction. Each list contains
// the previous one, which is already complete, and the builder visits the deepest list first.
func TestDepthThroughMemo(t *testing.T) {
	// One list holds all the others, so that the builder reaches each from a shallow depth.
	var b strings.Builder
	b.WriteString("](]\x94")
	for n := range 1200 {
		fmt.Fprintf(&b, "]j%sa\x94", number(n))
	}
	b.WriteString("e.")
	must.Fail(t, must.Err(Decode([]byte(b.String()))), "nested more than 1000", "Decode")
}

func number(n int) string { return string(le.AppendUint32(nil, uint32(n))) }

func TestDecodeAlternativeForms(t *testing.T) {
	for data, want := range map[string]any{
		newByteArray + ")R.":                            pyvalue.ByteArray{},
		newByteArray + "C\x02ab\x85R.":                  pyvalue.ByteArray("ab"),
		"\x8b\x00\x00\x00\x00.":                         int64(0),
		"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.": new(big.Int).Lsh(big.NewInt(1), 64),
		"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\xff.": int64(-1),
		// 1, 1.0 and True are equal keys in Python: a dict keeps the first of them with the last value.
		"}(K\x01\x8c\x01AG\x3f\xf0\x00\x00\x00\x00\x00\x00\x8c\x01B\x88\x8c\x01Cu.": pyvalue.Dict{{Key: int64(1), Value: "C"}},
		"\x8f(\x8c\x01AC\x01A\x8c\x01A\x90.":                                        pyvalue.Set{"A", []byte("A")},
	} {
		got, err := Decode([]byte(data))
		if err != nil || describe(got) != describe(want) {
			t.Errorf("Decode(%q) = %#v, %v, want %#v", data, got, err, want)
		}
	}
}

// TestSharedContainer checks that a container with two references is shared: later additions appear in both places.
func TestSharedContainer(t *testing.T) {
	v := must.Get(Decode([]byte("](]\x94h\x00K\x01ae.")))(t)
	list := v.([]any)
	if describe(v) != "[[i1],[i1]]" {
		t.Fatalf("Decode = %s, want [[i1],[i1]]", describe(v))
	}
	list[0].([]any)[0] = "changed"
	if list[1].([]any)[0] != "changed" {
		t.Error("a shared list was copied")
	}
}

// doublingPickle returns a pickle of 2^n elements: a list that contains the same list twice, which
// contains the same list twice, and so on.
func doublingPickle(n int) []byte {
	b := []byte("](]\x94")
	for i := range n {
		b = append(b, ']', '(', 'h', byte(i), 'h', byte(i), 'e', 0x94)
	}
	return append(b, "e."...)
}

func TestBombs(t *testing.T) {
	if _, err := Decode(doublingPickle(20)); err != nil {
		t.Errorf("Decode of 2^20 elements: %v", err)
	}
	shared := strings.Repeat("x", 20_000)
	for name, data := range map[string]string{
		"doubled 30 times":          string(doublingPickle(30)),
		"doubled 200 times":         string(doublingPickle(200)),
		"tuple as key doubled":      tupleKey(40),
		"bytes copied by calls":     "](" + newByteArray + "\x94B" + number(20_000) + shared + "\x94" + strings.Repeat("h\x00h\x01\x85R", 4000) + "e.",
		"long text in many dicts":   "](X" + number(20_000) + shared + "\x94" + strings.Repeat("}(h\x00N\x8c\x01bNu", 60_000) + "e.",
		"long text in many sets":    "](X" + number(20_000) + shared + "\x94" + strings.Repeat("\x8f(h\x00N\x90", 60_000) + "e.",
		"long text in many keys":    "](X" + number(20_000) + shared + "\x94}(" + manyKeys("h\x00J%s\x86N", 60_000) + "ue.",
		"long bytes in many keys":   "](B" + number(20_000) + shared + "\x94}(" + manyKeys("h\x00J%s\x86N", 60_000) + "ue.",
		"long bytes as keys":        "](B" + number(20_000) + shared + "\x94" + strings.Repeat("}(h\x00Nh\x00Nu", 60_000) + "e.",
		"long number in many dicts": "](\x8b" + number(20_000) + shared + "\x94" + strings.Repeat("}h\x00Ns", 60_000) + "e.",
	} {
		start := time.Now()
		bytes, _, err := decodeMeasured([]byte(data))
		t.Logf("%s: %v, %d bytes allocated for a pickle of %d", name, time.Since(start), bytes, len(data))
		if err == nil {
			t.Errorf("%s: Decode returned no error", name)
		}
		if limit := MaxGrowth*uint64(len(data)) + 1<<20; bytes > limit {
			t.Errorf("%s: Decode allocated %d bytes for a pickle of %d bytes, want at most %d", name, bytes, len(data), limit)
		}
		if elapsed := time.Since(start); elapsed > 20*time.Second {
			t.Errorf("%s: Decode took %v for a pickle of %d bytes, want at most 20 s", name, elapsed, len(data))
		}
	}
}

// manyKeys repeats form n times, each time with a different number in place of %s.
func manyKeys(form string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Replace(form, "%s", number(i), 1))
	}
	return b.String()
}

// tupleKey returns a pickle of a dict whose key has 2^n elements: a tuple that contains the same
// tuple twice, which contains the same tuple twice, and so on.
func tupleKey(n int) string {
	b := []byte("}(K\x01\x94")
	for i := range n {
		b = append(b, 'h', byte(i), 'h', byte(i), 0x86, 0x94)
	}
	return string(append(b, "Nu."...))
}

// decodeMeasured decodes data, and returns the total number of bytes allocated.
func decodeMeasured(data []byte) (bytes uint64, v any, err error) {
	bytes = procs.Allocated(func() { v, err = Decode(data) })
	return bytes, v, err
}

// TestMemoryIsBounded checks that Decode allocates at most MaxGrowth bytes for each byte of the pickle, however
// often an instruction is repeated.
func TestMemoryIsBounded(t *testing.T) {
	maxFactor := 0.0
	for _, part := range []string{
		"N", "]", "}", ")", "\x8f", "(", "]\x94", "K\x01", "K\xff", "M\xff\xff", "J\xff\xff\xff\xff", "G12345678", "\x8a\x00",
		"\x8a\x09123456789", "\x8c\x00", "\x8c\x01a", "\x8c\x03\xe2\x82\xac", "C\x00", "C\x01a", "X\x01\x00\x00\x00a",
		"\x96\x01\x00\x00\x00\x00\x00\x00\x00a", "N\x85", "NN\x86", "N\x85\x85", "(t", "(\x91", "]Na", "]NaNa",
		"}K\x01Ns", "}NNs", "}\x8c\x01ANs", "}(NNK\x01Nu", "}(K\x01NK\x02NK\x03Nu", "\x8f(N\x90", "\x8f(NK\x01\x90", "](N" + "e", "N\x94",
		newByteArray + ")R", "})Ns", "}(N\x85Nu", "}(N\x85N)Nu", "(N\x91", "(N\x85)\x91",
	} {
		for _, wrap := range []string{"%s.", "(%s", "](%se.", "\x8f(%s\x90."} {
			data := []byte(fmt.Sprintf(wrap, strings.Repeat(part, 20_000/len(part)*3)))
			bytes, _, _ := decodeMeasured(data)
			factor := (float64(bytes) - 64<<10) / float64(len(data))
			if factor > MaxGrowth {
				t.Errorf("%q in %q: Decode allocated %.0f times the pickle's %d bytes, want at most %d times", part, wrap, factor, len(data), MaxGrowth)
			}
			maxFactor = max(maxFactor, factor)
		}
	}
	t.Logf("Decode allocated at most %.0f times the length of a pickle", maxFactor)
	if maxFactor < 20 {
		t.Errorf("got allocations of at most %.0f times the length of a pickle, so the test does not measure allocations", maxFactor)
	}
}

func TestDecodeTruncated(t *testing.T) {
	data := must.Get(Append(nil, []any{1, "text", pyvalue.Dict{{Key: "a", Value: 2.5}}, pyvalue.Tuple{1, 2, 3, 4}, big.NewInt(0).Lsh(big.NewInt(1), 90), pyvalue.Set{"x"}}))(t)
	for n := range data {
		if v, err := Decode(data[:n]); err == nil {
			t.Errorf("Decode(%q) = %v, want an error", data[:n], v)
		}
	}
}

func TestAppendErrors(t *testing.T) {
	self := []any{nil}
	self[0] = self
	tuple := pyvalue.Tuple{nil}
	tuple[0] = tuple
	type structure struct{ A int }
	for _, c := range []struct {
		v    any
		want string
	}{
		{"\xff", "is not valid UTF-8"},
		{structure{}, "cannot be converted to a plain Python value"},
		{make(chan int), "cannot be converted to a plain Python value"},
		{[]any{func() {}}, "cannot be converted to a plain Python value"},
		{self, "contains itself"},
		{pyvalue.Dict{{Key: tuple}}, "contains itself"},
		{pyvalue.Dict{{Key: []any{}}}, "a list cannot be a key"},
		{pyvalue.Dict{{Key: []int{}}}, "a list cannot be a key"},
		{pyvalue.Set{pyvalue.Tuple{pyvalue.Dict{}}}, "a dict cannot be a key"},
		{pyvalue.FrozenSet{pyvalue.Set{}}, "a set cannot be a key"},
		{pyvalue.Dict{{Key: pyvalue.ByteArray{}}}, "a bytearray cannot be a key"},
	} {
		b, err := Append([]byte("before"), c.v)
		if err == nil || !strings.Contains(err.Error(), c.want) || string(b) != "before" {
			t.Errorf("Append of a %T = %q, %v, want an error with %q", c.v, b, err, c.want)
		}
	}
}

// TestAppendGoTypes checks that Append also accepts Go types that Decode never returns, and converts them.
func TestAppendGoTypes(t *testing.T) {
	type name string
	n := int32(7)
	for _, c := range []struct{ v, want any }{
		{[]int{1, 2}, []any{int64(1), int64(2)}},
		{[2]string{"a", "b"}, []any{"a", "b"}},
		{map[string]int{"b": 2, "a": 1}, pyvalue.Dict{{Key: "a", Value: int64(1)}, {Key: "b", Value: int64(2)}}},
		{map[uint8]bool{2: true, 1: false}, pyvalue.Dict{{Key: int64(1), Value: false}, {Key: int64(2), Value: true}}},
		{map[int]string{-1: "", 1: ""}, pyvalue.Dict{{Key: int64(-1), Value: ""}, {Key: int64(1), Value: ""}}},
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
				t.Error("Append accepted a pointer")
			}
			continue
		}
		if err != nil {
			t.Errorf("Append of a %T: %v", c.v, err)
			continue
		}
		if got, err := Decode(b); err != nil || describe(got) != describe(c.want) {
			t.Errorf("Append of a %T decodes to %v, %v, want %v", c.v, got, err, c.want)
		}
	}
}

// TestDecodeObjects checks that DecodeObjects describes calls of allowed classes and functions, and rejects all others.
func TestDecodeObjects(t *testing.T) {
	isAllowed := func(module, name string) bool { return module == "m" }
	decode := func(data string) (any, error) { return DecodeObjects([]byte(data), isAllowed) }
	f := pushFunction("m", "f")
	for data, want := range map[string]any{
		f + ".":                       Global{"m", "f"},
		f + "K\x01\x85R.":             &Object{Class: Global{"m", "f"}, Args: pyvalue.Tuple{int64(1)}},
		f + ")\x81}b.":                &Object{Class: Global{"m", "f"}, Args: pyvalue.Tuple{}, State: pyvalue.Dict{}},
		f + ")R" + "K\x01\x85R.":      &Object{Class: &Object{Class: Global{"m", "f"}, Args: pyvalue.Tuple{}}, Args: pyvalue.Tuple{int64(1)}},
		newByteArray + "C\x01A\x85R.": pyvalue.ByteArray("A"),
		"](" + f + f + ")Re.":         []any{Global{"m", "f"}, &Object{Class: Global{"m", "f"}, Args: pyvalue.Tuple{}}},
	} {
		got, err := decode(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("DecodeObjects(%q) = %#v, %v, want %#v", data, got, err, want)
			continue
		}
		o, ok := got.(*Object)
		if !ok || o.State != nil {
			continue
		}
		reencoded, err := Append(nil, o)
		if err != nil {
			t.Error(err)
		} else if decoded, err := decode(string(reencoded)); err != nil || !reflect.DeepEqual(decoded, want) {
			t.Errorf("DecodeObjects(%q) = %#v, %v, want the object that was encoded", reencoded, decoded, err)
		}
	}
	for data, want := range map[string]string{
		pushFunction("posix", "system") + "\x8c\x02ls\x85R.": `"system" from the module "posix"`,
		"cm\nf\n.":          "GLOBAL (a class or function)",
		f + "]R.":           "without a tuple",
		"])\x81.":           "something that is not a function",
		"]}b.":              "BUILD",
		f + "}b.":           "BUILD",
		f + ")R}b}b.":       "BUILD",
		f + ")R\x94h\x00b.": "contains itself",
		"b.":                "more elements than the stack has",
		f + ")}\x92.":       "NEWOBJ_EX",
		"(im\nf\n.":         "INST",
		"Pname\n.":          "PERSID",
	} {
		if v, err := decode(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("DecodeObjects(%q) = %v, %v, want an error with %q", data, v, err, want)
		}
	}
	for _, part := range []string{f + ")R", f, "h\x00)R", "h\x00)\x81Nb"} {
		data := []byte("](" + f + "\x94" + strings.Repeat(part, 20_000) + "e.")
		var err error
		allocated := procs.Allocated(func() { _, err = DecodeObjects(data, isAllowed) })
		if err != nil || allocated > MaxGrowth*uint64(len(data)) {
			t.Errorf("%q repeated: DecodeObjects allocated %d bytes for a pickle of %d bytes: %v", part, allocated, len(data), err)
		}
	}
}

package msgpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/pyvalue"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// python is Debian's Python.
const python = "/usr/bin/python3"

// TestSameBytesAsPython checks that Decode reads values that Python's msgpack wrote, and Append writes the same bytes
// again.
func TestSameBytesAsPython(t *testing.T) {
	if err := exec.Command(python, "-c", "import msgpack").Run(); err != nil {
		procs.Skip(t, "this test needs python3-msgpack: %v", err)
	}
	const count = 5000
	out := must.Get(exec.Command(python, "testdata/values.py", "1", fmt.Sprint(count)).Output())(t)
	for n := range count {
		size := binary.LittleEndian.Uint32(out)
		data := out[4:][:size]
		out = out[4+size:]
		v, err := Decode(data)
		if err != nil {
			t.Fatalf("Decode of value %d, %.100q: %v", n, data, err)
		}
		reencoded, err := Append([]byte("before"), v)
		if err != nil || !bytes.Equal(reencoded[6:], data) {
			t.Fatalf("value %d: %.100q becomes %.100q, %v", n, data, reencoded, err)
		}
	}
	if len(out) > 0 {
		t.Fatalf("%d bytes follow the last value", len(out))
	}
}

func TestDecodeErrors(t *testing.T) {
	deep := strings.Repeat("\x91", 1100) + "\xc0"
	for _, c := range []struct {
		data, want string
	}{
		{"", "too few bytes"},
		{"\xc1", "is not supported"},
		{"\xd4\x01\x00", "is not supported"},
		{"\xd6\xff\x00\x00\x00\x00", "is not supported"},
		{"\xc7\x08\x03\x00", "is not supported"},
		{"\xc0\xc0", "1 bytes follow the value"},
		{"\x92\xc0", "declares 2 more values, but only 1 bytes are left"},
		{"\xdd\xff\xff\xff\xff", "declares 4294967295 more values"},
		{"\xdf\xff\xff\xff\xff", "declares 8589934590 more values"},
		{"\xdc\xff\xff" + strings.Repeat("\xdc\xff\xff", 1000), "more values, but"},
		{"\xc6\xff\xff\xff\xff", "too few bytes"},
		{"\xdb\xff\xff\xff\xff", "too few bytes"},
		{"\xcb\x00", "too few bytes"},
		{"\xdd\xff", "too few bytes"},
		{"\xa1\xff", "invalid UTF-8"},
		{"\xa3\xed\xa0\x80", "invalid UTF-8"},
		{"\x81\x90\xc0", "a list cannot be a key"},
		{"\x82\x80\xc0\x01\xc0", "a dict cannot be a key"},
		{deep, "nested more than 1000 levels deep"},
	} {
		v, err := Decode([]byte(c.data))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Decode(%.40q) = %v, %v, want an error with %q", c.data, v, err, c.want)
		}
	}
}

func TestAppendNotPlain(t *testing.T) {
	deep := any(nil)
	for range 512 {
		deep = []any{deep}
	}
	self := []any{nil}
	self[0] = self
	for _, v := range []any{
		pyvalue.Set{},
		pyvalue.FrozenSet{},
		new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(0).Neg(new(big.Int).Lsh(big.NewInt(1), 63)).Sub(big.NewInt(0), new(big.Int).Lsh(big.NewInt(1), 65)),
		pyvalue.Dict{{Key: 1}},
		pyvalue.Dict{{Key: nil}},
		"\xff", deep, self,
		[]any{pyvalue.Dict{{Key: pyvalue.Tuple{}}}},
		map[int]int{1: 1},
	} {
		if b, err := Append([]byte("before"), v); !errors.Is(err, ErrNotPlain) || string(b) != "before" {
			t.Errorf("Append of a %T = %q, %v, want %v", v, b, err, ErrNotPlain)
		}
	}
	if _, err := Append(nil, []any{struct{}{}}); err == nil || errors.Is(err, ErrNotPlain) {
		t.Errorf("Append of a struct = %v, want an error that does not wrap ErrNotPlain", err)
	}
	if b, err := AppendTexts([]byte("before"), []string{"a", "\xff"}); err == nil || string(b) != "before" {
		t.Errorf("AppendTexts with invalid UTF-8 = %q, %v, want an error", b, err)
	}
}

func TestRepeatedKeyKeepsLastValue(t *testing.T) {
	v, err := Decode([]byte("\x83\xa1a\x01\xa1b\x02\xa1a\x03"))
	if want := (pyvalue.Dict{{Key: "a", Value: 3}, {Key: "b", Value: 2}}); err != nil || text(v) != text(want) {
		t.Fatalf("Decode = %v, %v, want %v", v, err, want)
	}
}

// text encodes a value, so that equal values have equal texts.
func text(v any) string {
	b, err := pickle.Append(nil, v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func decodeMeasured(data []byte) (bytes uint64, v any, err error) {
	bytes = procs.Allocated(func() { v, err = Decode(data) })
	return bytes, v, err
}

func TestMemoryIsBounded(t *testing.T) {
	maxFactor := 0.0
	for _, part := range []string{
		"\xc0", "\x90", "\x80", "\x91\xc0", "\xa0", "\xa1a", "\xc4\x00", "\xc4\x01a", "\x81\xc0\xc0", "\x81\x01\xc0", "\x81\xa1a\xc0",
		"\x82\xc0\xc0\x01\xc0", "\x83\x01\xc0\x02\xc0\x03\xc0", "\x82\xc4\x01a\xc0\xc4\x01b\xc0", "\x05", "\xcc\xff", "\xca1234", "\xcf\xff1234567", "\xdd\xff\xff\xff\xff", "\xdc\x20\x00",
	} {
		n := 60_000 / len(part)
		for _, data := range []string{
			"\xdd" + string(binary.BigEndian.AppendUint32(nil, uint32(n))) + strings.Repeat(part, n),
			"\xdf" + string(binary.BigEndian.AppendUint32(nil, uint32(n/2))) + strings.Repeat(part, n/2*2),
			strings.Repeat(part, n),
		} {
			bytes, _, _ := decodeMeasured([]byte(data))
			factor := (float64(bytes) - 64<<10) / float64(len(data))
			if factor > MaxGrowth {
				t.Errorf("Decode of %.12q… (%q repeated) allocated %.0f times the input's %d bytes, want at most MaxGrowth times", data, part, factor, len(data))
			}
			maxFactor = max(maxFactor, factor)
		}
	}
	t.Logf("Decode allocated at most %.0f times the length of the input", maxFactor)
	if maxFactor < 10 {
		t.Errorf("got allocations of at most %.0f times the length of the input, so the test does not measure allocations", maxFactor)
	}
}

// FuzzDecode looks for input that makes Decode panic or use more memory than MaxGrowth allows, or that
// decodes to a value which changes when it is encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"\x95\xc0\xc3\xe0\xcd\x01\x00\xa3abc", "\x82\xa1a\x90\xc4\x01b\x80", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "\xca\x3f\x80\x00\x00", "\xdd\xff\xff\xff\xff", "\x81\x01\x02"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		bytes, v, err := decodeMeasured(data)
		if bytes > MaxGrowth*uint64(len(data))+1<<20 {
			t.Fatalf("Decode allocated %d bytes for an input of %d bytes, want at most MaxGrowth for each", bytes, len(data))
		}
		if err != nil {
			return
		}
		reencoded, err := Append(nil, v)
		if errors.Is(err, ErrNotPlain) {
			return
		}
		must.Do(t, err)
		w, err := Decode(reencoded)
		if err != nil || text(v) != text(w) {
			t.Fatalf("encoding and decoding %#v returns %#v, %v, want the same value", v, w, err)
		}
	})
}

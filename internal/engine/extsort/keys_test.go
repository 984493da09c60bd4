package extsort

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

// checkOrder checks that encodings a and b compare as want, also if other keys follow them, and as -want
// if both are inverted. values are the encoded values, for messages.
func checkOrder(t *testing.T, values any, a, b []byte, want int) {
	t.Helper()
	if got := bytes.Compare(a, b); got != want {
		t.Errorf("%v: %x and %x have the order %d, want %d", values, a, b, got, want)
	}
	if a, b := append(bytes.Clone(a), 9), append(bytes.Clone(b), 3); want != 0 && bytes.Compare(a, b) != want {
		t.Errorf("%v: %x and %x, followed by another key, do not have the order %d", values, a, b, want)
	}
	a, b = bytes.Clone(a), bytes.Clone(b)
	Invert(a)
	Invert(b)
	if got := bytes.Compare(a, b); got != -want {
		t.Errorf("%v: the inverted %x and %x have the order %d, want %d", values, a, b, got, -want)
	}
}

func TestNumbersOrder(t *testing.T) {
	ints := []int64{math.MinInt64, math.MinInt64 + 1, -256, -1, 0, 1, 255, 256, math.MaxInt64}
	floats := []float64{
		math.NaN(), math.Inf(-1), -math.MaxFloat64, -1.5, -math.SmallestNonzeroFloat64, math.Copysign(0, -1), 0,
		math.SmallestNonzeroFloat64, 1, 1.5, math.MaxFloat64, math.Inf(1), math.Float64frombits(0xfff8000000000001),
	}
	for _, a := range ints {
		for _, b := range ints {
			checkOrder(t, []int64{a, b}, AppendUint(nil, uint64(a)), AppendUint(nil, uint64(b)), cmp.Compare(uint64(a), uint64(b)))
		}
	}
	for _, a := range floats {
		for _, b := range floats {
			checkOrder(t, []float64{a, b}, AppendFloat(nil, a), AppendFloat(nil, b), cmp.Compare(a, b))
		}
	}
}

func TestTextsOrder(t *testing.T) {
	texts := []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00b", "ab", "b", "\xff", "\xff\x00", "\xff\xff"}
	for _, a := range texts {
		for _, b := range texts {
			checkOrder(t, []string{a, b}, AppendText(nil, a), AppendText(nil, b), strings.Compare(a, b))
			if encoded := AppendText(nil, a); TextLen(AppendText(encoded, b)) != len(encoded) {
				t.Errorf("TextLen of %q followed by %q = %d, want %d", a, b, TextLen(AppendText(encoded, b)), len(encoded))
			}
		}
	}
}

func TestDecimalsOrder(t *testing.T) {
	texts := []string{
		"0", "-0", "+0", "0.0", ".0", "0.", "0e5", "1", "+1", "1.0", "01", "10e-1", "0.1e1", "-1", "-1.5", "2", "9", "10", "11", "12", "19.9", "20",
		"99", "100", "101", "123456789", "1234567890", "-123456789", "9007199254740993", "9007199254740992", "9007199254740992.5",
		"123456789012345678901234567890", "123456789012345678901234567891", ".5", "0.05", "0.050", "0.0501", "5e-2", "1e99", "1e100", "1e101", "-1e101",
		"1e-99", "1e-100", "1e-101", "1e-150", "-1e-150", "1e308", "1e309", "-1e400", "1e400", "1.1e400", "123.456e-3", "3", "30", "300", "33",
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		s := strings.Repeat("-", r.IntN(2))
		for range 1 + r.IntN(4) {
			s += string('0' + byte(r.IntN(3)))
		}
		s += "."
		for range r.IntN(4) {
			s += string('0' + byte(r.IntN(3)))
		}
		texts = append(texts, s)
	}
	for _, a := range texts {
		x, ok := new(big.Rat).SetString(strings.TrimSuffix(a, "."))
		if !ok {
			t.Fatalf("big.Rat does not accept %q", a)
		}
		ea, ok := AppendDecimal(nil, a)
		if !ok {
			t.Fatalf("AppendDecimal(%q) does not accept the number", a)
		}
		for _, b := range texts {
			y, _ := new(big.Rat).SetString(strings.TrimSuffix(b, "."))
			eb, _ := AppendDecimal(nil, []byte(b))
			checkOrder(t, []string{a, b}, ea, eb, x.Cmp(y))
		}
	}
}

func TestInvalidDecimals(t *testing.T) {
	for _, s := range []string{
		"", "-", "+", ".", "-.", "e5", "1e", "1e+", "1e-", "1e1.5", "1.2.3", "1x", " 1", "1 ", "0x10", "1_000", "inf", "NaN", "--1", "1e99999999999999999999", "1e2000000000000000000",
	} {
		if dst, ok := AppendDecimal([]byte("x"), s); ok || string(dst) != "x" {
			t.Errorf("AppendDecimal(%q) = %x, %v, want it unchanged and false", s, dst, ok)
		}
	}
}

// FuzzDecimal compares the order of two encoded numbers with the order according to big.Rat.
func FuzzDecimal(f *testing.F) {
	f.Add("1.50", "-2e3")
	f.Add("0.001", "1e-3")
	f.Add("123456789012345678", "123456789012345679")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, ok := AppendDecimal(nil, a)
		y, ok2 := AppendDecimal(nil, b)
		if !ok || !ok2 || len(a) > 50 || len(b) > 50 {
			return
		}
		for _, s := range []string{a, b} {
			if _, e, hasExponent := strings.Cut(strings.ToLower(s), "e"); hasExponent && len(strings.Trim(e, "+-0")) > 4 {
				return // big.Rat would take forever
			}
		}
		p, ok := new(big.Rat).SetString(a)
		q, ok2 := new(big.Rat).SetString(b)
		if ok && ok2 {
			checkOrder(t, []string{a, b}, x, y, p.Cmp(q))
		}
	})
}

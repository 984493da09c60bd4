package aggregate

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestParse(t *testing.T) {
	specs, err := Parse(`count, sum(a), mean(b c),min(x:b),max(f(x)),list(a,b),median(a,b),quantile(x, 0.25),regr_slope("d,e",x y),every(x),corr(f"g,x),` +
		`sum("a, b"),mean("sum(x)") as m,count as "n, all",min("x:b":b),quantile(before(p,','),.5),corr( "y" , x) AS r`)
	want := []Spec{
		{Func: Count, Text: "count"},
		{Func: Sum, Field: "a", Text: "sum(a)"},
		{Func: Mean, Field: "b c", Text: "mean(b c)"},
		{Func: Min, Field: "x", Bytes: true, Text: "min(x:b)"},
		{Func: Max, Field: "f(x)", Text: "max(f(x))"},
		{Func: List, Field: "a,b", Text: "list(a,b)"},
		{Func: Quantile, Field: "a,b", Fraction: 0.5, Text: "median(a,b)"},
		{Func: Quantile, Field: "x", Fraction: 0.25, Text: "quantile(x, 0.25)"},
		{Func: RegrSlope, Field: "d,e", IsQuoted: true, Second: "x y", Text: `regr_slope("d,e",x y)`},
		{Func: BoolAnd, Field: "x", Text: "every(x)"},
		{Func: Corr, Field: `f"g`, Second: "x", Text: `corr(f"g,x)`},
		{Func: Sum, Field: "a, b", IsQuoted: true, Text: `sum("a, b")`},
		{Func: Mean, Field: "sum(x)", IsQuoted: true, Text: `mean("sum(x)")`, Name: "m"},
		{Func: Count, Text: "count", Name: "n, all"},
		{Func: Min, Field: "x:b", IsQuoted: true, Bytes: true, Text: `min("x:b":b)`},
		{Func: Quantile, Field: "before(p,',')", Fraction: 0.5, Text: "quantile(before(p,','),.5)"},
		{Func: Corr, Field: "y", IsQuoted: true, Second: "x", Text: `corr( "y" , x)`, Name: "r"},
	}
	for i := range want {
		want[i].Name = cmp.Or(want[i].Name, want[i].Text)
	}
	if err != nil || !slices.Equal(specs, want) {
		t.Errorf("Parse = %+v, %v, want %+v", specs, err, want)
	}
	for list, want := range map[string]string{
		"": "unknown aggregate", "sum": "needs a field", "sum()": "needs a field", "count()": "needs a field", "total(x)": "use count, sum(x)",
		"sum(x": "closing parenthesis", "sum(x)y": "closing parenthesis", "count,": "unknown aggregate",
		"medain(x)": `did you mean "median"?`, "quantil(x,0.5)": `did you mean "quantile"?`, "regr_slop(y,x)": `did you mean "regr_slope"?`,
		"corr(x)": "for example corr(y,x)", "corr(,x)": "two fields", "corr(x,y,z)": "quote a name that contains a comma", "corr": "two fields", "quantile(x)": "for example quantile(x,0.9)",
		"quantile(x,2)": "from 0 to 1", "quantile(x,nan)": "from 0 to 1", "quantile(x,p)": `not "p"`, "median()": "needs a field",
		"sum(x) as": "nor as NAME", "sum(x) as ,count": `"as" needs a name`, `sum(x) as "a`: `"as" needs a name`, "sum(x) a": "nor as NAME", "count a": "a comma is missing", `sum("x":b)`: "only min and max",
	} {
		must.Fail(t, must.Err(Parse(list)), want, "Parse(%q)", list)
	}
	for name := range strings.SplitSeq(Names, ", ") {
		if _, err := Parse(name); err != nil {
			t.Errorf("Parse(%q), which Names lists: %v", name, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "+7": "7", " 12 ": "12", "007": "7", "-9223372036854775808": "-9223372036854775808",
		"18446744073709551616": "18446744073709551616", "-123456789012345678901234567": "-123456789012345678901234567",
		"0000000000000000000000000000000000000000012": "12", "1234567890123456789012345678": "1.2345678901234569e+27",
		"1.5": "1.5", "1.": "1", ".5": "0.5", "-.5e1": "-5", "1e3": "1000", "0.1": "0.1", "9007199254740993.5": "9007199254740994",
		"0.0000001": "1e-07", "123456789.123456789": "123456789.12345679", "1e-400": "0",
	} {
		n, ok := ParseNumber([]byte(text))
		if got := string(n.Append(nil)); !ok || got != want {
			t.Errorf("ParseNumber(%q) = %s, %v, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", " ", ".", "-", "+", "e", "1e", "1e400", "NaN", "inf", "0x1", "1_000", "1,5", "--1", "1 2", "1.2.3", "1\x00", "१"} {
		if n, ok := ParseNumber([]byte(text)); ok {
			t.Errorf("ParseNumber(%q) = %s, want no number", text, n.Append(nil))
		}
	}
}

// checkShort checks that ParseAt returns the same number as ParseNumber, and that shortDigits accepts a number unless
// it has a plus sign or an exponent, whatever follows the text.
func checkShort(t *testing.T, text string) {
	t.Helper()
	if len(text) == 0 || len(text) > 8 {
		return
	}
	want, isNumber := ParseNumber([]byte(text))
	for _, rest := range []string{"\x00\x00\x00\x00\x00\x00\x00", "1.2,3.4", "\n-.\xff456"} {
		data := []byte(text + rest)
		n, ok := ParseAt(data, 0, uint32(len(text)))
		_, _, _, isShort := shortDigits(binary.LittleEndian.Uint64(data), uint32(len(text)))
		if ok != isNumber || n != want || isShort && !isNumber || !isShort && isNumber && !strings.ContainsAny(text, " +eE") {
			t.Fatalf("ParseAt(%q) = %v, %v, %v, but ParseNumber returns %v, %v", text, n, ok, isShort, want, isNumber)
		}
		for _, limit := range []Number{Int(5, true), Int(0, false), Float(1.5), Int(1<<60+1, false)} {
			result, out := byte('x'), make([]byte, 1)
			if isNumber {
				result = "<=>"[want.Compare(limit)+1]
			}
			CompareColumn(data, []uint32{0}, []uint32{uint32(len(text))}, limit, Comparison{'<', '=', '>', '0', 'x'}, out)
			if out[0] != result {
				t.Fatalf("CompareColumn(%q) with %v is %c, want %c", text, limit, out[0], result)
			}
		}
	}
}

// TestShortNumbers compares ParseAt with ParseNumber.
func TestShortNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	const letters = "0123456789012345678901234567890123456789......-+e /:\x00\xb0\xff"
	for range 300_000 {
		text := make([]byte, 1+r.IntN(8))
		for i := range text {
			text[i] = letters[r.IntN(len(letters)-r.IntN(2)*16)]
		}
		checkShort(t, string(text))
	}
}

// TestParseColumn compares ParseColumn with ParseNumber, for columns whose data ends with their last value.
func TestParseColumn(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	p := NewProgram([]Spec{{Func: Sum, Field: "x"}}, []Columns{{0, -1}})
	texts := []string{"", "0", "-0", "+7", " 8 ", "007", ".5", "5.", "-.25", "1e3", "12345678", "1234.567", "123456789", "0.1234567", "99999999999999999999", "1e400", ".", "-", "x", "1.2.3", "NaN", "0x1p3", "1_0", " "}
	for range 20_000 {
		var data []byte
		var from, to []uint32
		var want []Number
		valid := true
		for range r.IntN(6) {
			text := texts[r.IntN(len(texts)-r.IntN(2)*9)]
			from = append(from, uint32(len(data)))
			data = append(data, text...)
			to = append(to, uint32(len(data)))
			n, ok := ParseNumber([]byte(text))
			want, valid = append(want, n), valid && (ok || text == "")
		}
		v := p.NewValues(8)
		ok := p.ParseColumn(v, 1, 0, slices.Clip(data), from, to)
		if ok != valid || ok && !slices.Equal(v.Numbers[0][1:1+len(want)], want) {
			t.Fatalf("ParseColumn of %q, which ends at %d, returns %v, %v; want %v, %v", data, to, v.Numbers[0], ok, want, valid)
		}
		for i := range want {
			if ok && v.Present[0][1+i] != (to[i] > from[i]) {
				t.Fatalf("%q, value %d: present is %v", data, i, v.Present[0][1+i])
			}
		}
	}
}

// FuzzNumber compares numbers with the results of math/big and strconv.
func FuzzNumber(f *testing.F) {
	for _, text := range []string{"1", "-12.50", "6e23", "99999999999999999999", "0.30000000000000004", "1e-7", "+.5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkShort(t, text)
		n, ok := ParseNumber([]byte(text))
		trimmed := strings.Trim(text, " ")
		want, err := strconv.ParseFloat(trimmed, 64)
		usable := err == nil && !math.IsInf(want, 0) && !math.IsNaN(want) && !strings.ContainsAny(trimmed, "xXpP_")
		if ok != usable {
			t.Fatalf("ParseNumber(%q) returns %v, but strconv %v", text, ok, err)
		}
		if !ok {
			return
		}
		if integer, isWhole := new(big.Int).SetString(trimmed, 10); isWhole && len(integer.String()) <= maxDigits {
			if got := string(n.Append(nil)); got != integer.String() {
				t.Fatalf("ParseNumber(%q) = %s, but math/big returns %s", text, got, integer)
			}
		} else if n.Float64() != want {
			t.Fatalf("ParseNumber(%q) = %v, but strconv returns %v", text, n.Float64(), want)
		}
	})
}

// TestFewestDigits checks that Append writes floats with the fewest digits, like package json.
func TestFewestDigits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 1_000_000 {
		f := float64(r.Int64N(1<<(1+i%60))) / math.Pow(10, float64(r.IntN(9)))
		switch i % 4 {
		case 0:
			f = math.Float64frombits(math.Float64bits(f) + r.Uint64N(3) - 1)
		case 1:
			f = -f
		}
		want, err := json.Marshal(f)
		if err != nil {
			continue // 0 has no predecessor
		}
		if got := Float(f).Append(nil); math.Abs(f) >= 1e-6 && string(got) != string(want) {
			t.Fatalf("Append of a float = %s, want %s", got, want)
		}
	}
}

func parseNumber(t *testing.T, text string) Number {
	t.Helper()
	n, ok := ParseNumber([]byte(text))
	if !ok {
		t.Fatalf("%q is not a number", text)
	}
	return n
}

func TestCompareIsExact(t *testing.T) {
	ordered := []string{
		"-1e30", "-99999999999999999999", "-9007199254740993", "-9007199254740992.0", "-1.5", "-1", "0", "0.1", "1", "9007199254740992.0",
		"9007199254740993", "9223372036854775807", "9223372036854775808.0", "18446744073709551617", "1e30",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := parseNumber(t, a).Compare(parseNumber(t, b)); got != cmp.Compare(i, j) {
				t.Errorf("%s compared with %s = %d, want %d", a, b, got, cmp.Compare(i, j))
			}
		}
	}
}

func TestResults(t *testing.T) {
	for _, c := range []struct {
		values string
		want   string // count(x) sum mean min max stddev
	}{
		{"", "0 none none none none none"},
		{"5", "1 5 5 5 5 none"},
		{"1,,3", "2 4 2 1 3 1.4142135623730951"},
		{"9223372036854775807,9223372036854775807,2", "3 18446744073709551616 6148914691236517000 2 9223372036854775807 5325116328314172000"},
		{"1e16,1,-1e16,1", "4 2 0.5 -10000000000000000 10000000000000000 8164965809277260"},
		{"0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1", "10 1 0.1 0.1 0.1 0"},
		{"1.0,1e100,1.0,-1e100", "4 2 0.5 -1e+100 1e+100 8.16496580927726e+99"},
		{"-1,-1.5", "2 -2.5 -1.25 -1.5 -1 0.3535533905932738"},
		{"1e308,1e308,-1e308", "3 range range -1e+308 1e+308 range"},
		{"-1e308,-1.5e308", "2 range range -1.5e+308 -1e+308 range"},
		{"1.5e308,999999999999999999999999999", "2 1.5e+308 7.5e+307 999999999999999999999999999 1.5e+308 range"},
	} {
		var records [][]string
		for value := range strings.SplitSeq(c.values, ",") {
			records = append(records, []string{"", value, ""})
		}
		want := strings.Fields(c.want)
		for _, parts := range []int{1, 3} {
			got := aggregateRecords(t, "count(x),sum(x),mean(x),min(x),max(x),stddev(x)", records, parts)
			if !slices.Equal(got[:5], want[:5]) || got[5] != want[5] && !isClose(t, got[5], want[5]) {
				t.Errorf("aggregates of %q in %d parts = %q, want %s", c.values, parts, got, c.want)
			}
		}
	}
}

func isClose(t *testing.T, a, b string) bool {
	x, y := parseNumber(t, a).Float64(), parseNumber(t, b).Float64()
	return math.Abs(x-y) <= 1e-15*math.Abs(y)
}

// TestSumOfBothKinds checks that integers and floats can be added in any order and in parts: no digit of an integer is
// lost before the final rounding.
func TestSumOfBothKinds(t *testing.T) {
	texts := []string{"9007199254740993", "0.5", "-9007199254740993", "123456789012345678901234567", "-123456789012345678901234567", "0.25"}
	for shift := range texts {
		for cut := range len(texts) + 1 {
			parts := [2][]uint64{make([]uint64, sumWords), make([]uint64, sumWords)}
			for i := range texts {
				part := 0
				if i >= cut {
					part = 1
				}
				addToSum(parts[part], parseNumber(t, texts[(i+shift)%len(texts)]))
			}
			mergeSum(parts[0], parts[1])
			if n, ok := decodeSum(parts[0]); !ok || n.Float64() != 0.75 {
				t.Errorf("the sum from number %d on, in two parts cut at %d, is %v, want 0.75", shift, cut, n.Float64())
			}
		}
	}
}

// TestLongDecimals checks that decimals around the limit of exact integers are parsed as the nearest float.
func TestLongDecimals(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		m := strconv.FormatUint(1<<53-1000+random.Uint64N(1<<54), 10)
		i := random.IntN(len(m) + 1)
		text := m[:i] + "." + m[i:]
		want := must.Get(strconv.ParseFloat(text, 64))(t)
		if n, ok := ParseNumber([]byte(text)); !ok || !n.Float || n.Float64() != want {
			t.Fatalf("ParseNumber(%q) = %v, %v, want %v", text, n.Float64(), ok, want)
		}
	}
}

// TestCorrelationOfSmallAndLargeNumbers checks that the correlation does not depend on the unit of the numbers, even if
// the product of their squares is outside the range of float64.
func TestCorrelationOfSmallAndLargeNumbers(t *testing.T) {
	correlation := func(unit float64) float64 {
		s := make([]uint64, pairsWords)
		for i, y := range []float64{1, 3, 2, 5, 4, 9} {
			addToPairs(s, float64(i)*unit, y*unit)
		}
		return decodePairs(s).correlation()
	}
	want := correlation(1)
	if want < 0.5 || want > 0.95 {
		t.Fatalf("the correlation is %v, want one that is not clear", want)
	}
	for _, exponent := range []int{-150, -100, -80, -79, -78, -77, -75, -73, 70, 76, 77, 100, 150} {
		if got := correlation(math.Pow10(exponent)); math.Abs(got-want) > 1e-12 {
			t.Errorf("the correlation of numbers times %s is %v, want %v", fmt.Sprintf("1e%d", exponent), got, want)
		}
	}
}

package aggregate

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// aggregateRecords computes the aggregates in list of the fields y, x and b. It divides the records into
// parts and merges the results.
func aggregateRecords(t *testing.T, list string, records [][]string, parts int) (texts []string) {
	t.Helper()
	specs := must.Get(Parse(list))(t)
	var columns []Columns
	for _, s := range specs {
		columns = append(columns, Columns{strings.Index("yxb", s.Field), strings.Index("yxb", s.Second+"?"[len(s.Second):])})
	}
	p := NewProgram(specs, columns)
	states := make([][]uint64, parts)
	for i := range states {
		states[i] = make([]uint64, p.Words)
	}
	v := p.NewValues(1)
	for i, record := range records {
		var values [][]byte
		for _, v := range record {
			values = append(values, []byte(v))
		}
		if bad := p.Parse(v, 0, values); bad >= 0 {
			t.Fatalf("%q: column %d is invalid", record, bad)
		}
		p.Add(states[i%parts:i%parts+1], v, 0)
	}
	for _, s := range states[1:] {
		p.Merge(states[0], s)
	}
	for i := range specs {
		text, err := p.Append(nil, i, states[0], uint64(len(records)))
		switch {
		case err != nil:
			text = []byte("range")
		case text == nil:
			text = []byte("none")
		}
		texts = append(texts, string(text))
	}
	return texts
}

// TestPairsAndBools checks aggregates of pairs of numbers and of booleans. As in SQL, an aggregate of too few values
// has no result.
func TestPairsAndBools(t *testing.T) {
	const list = "corr(y,x),covar(y,x),covar_pop(y,x),regr_slope(y,x),regr_intercept(y,x),regr_r2(y,x),bool_and(b),bool_or(b)"
	for records, want := range map[string]string{
		"":                      "none none none none none none none none",
		"1,,":                   "none none none none none none none none",
		"2,3,t":                 "none none 0 none none none true true",
		"2,3,t 4,,FALSE ,5,":    "none none 0 none none none false true",
		"2,3,0 5,3,no":          "none 0 0 none none none false false", // a vertical line
		"2,3,on 2,4,1":          "none 0 0 0 2 1 true true",            // a horizontal line
		"1,10,Yes 2,20,f 3,30,": "1 10 6.666666666666667 0.1 0 1 false true",
		"3,1, 2,2, 1,3,":        "-1 -1 -0.6666666666666666 -1 4 1 none none",
		"1e200,1, -1e200,2,":    "range -1e+200 -5e+199 -2e+200 3e+200 range none none",
		"1e150,1e150, 2,2,":     "1 4.9999999999999995e+299 2.4999999999999998e+299 1 0 1 none none",
		"1,1e200, 2,-1e200,":    "range -1e+200 -5e+199 range range range none none",
		"1e-200,1, 3e-200,2,":   "none 1e-200 5e-201 2e-200 -1e-200 1 none none",
	} {
		var rows [][]string
		for _, r := range strings.Fields(records) {
			rows = append(rows, strings.Split(r, ","))
		}
		for parts := range 3 {
			if got := strings.Join(aggregateRecords(t, list, rows, parts+1), " "); got != want {
				t.Errorf("aggregates of %q in %d parts = %s, want %s", records, parts+1, got, want)
			}
		}
	}
	p := NewProgram([]Spec{{Func: BoolAnd, Field: "b"}, {Func: Sum, Field: "n"}}, []Columns{{0, -1}, {1, -1}})
	for record, want := range map[string]int{"2,1": 0, "tru,1": 0, "true,x": 1, " TRUE ,1": -1} {
		b, n, _ := strings.Cut(record, ",")
		if got := p.Parse(p.NewValues(1), 0, [][]byte{[]byte(b), []byte(n)}); got != want {
			t.Errorf("Parse(%q) = %d, want %d", record, got, want)
		}
	}
}

// TestMergeOfEmptyParts checks that merging an empty part changes nothing: the variance of equal numbers stays 0, even
// if a sum of these numbers would overflow float64.
func TestMergeOfEmptyParts(t *testing.T) {
	for _, x := range []string{"0.1", "0.7", "1.7e308"} {
		var rows [][]string
		for i := range 3 {
			row := []string{strconv.Itoa(i), x, ""}
			rows = append(rows, []string{"", "", ""}, row, row, row)
		}
		const want = "none 0 0"
		if got := strings.Join(aggregateRecords(t, "regr_slope(y,x),covar(y,x),var(x)", rows, 4), " "); got != want {
			t.Errorf("aggregates of parts with %s = %s, want %s", x, got, want)
		}
	}
}

// TestPairsPrecision checks that numbers that are large compared with their differences lose little precision: the
// results of a single pass must agree with those of a pass for the means, and another for the deviations.
func TestPairsPrecision(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const n = 20_000
	var rows [][]string
	var pairs [][2]float64
	var x0, y0, xx, yy, xy float64
	for range n {
		x := 1e6 + r.NormFloat64()
		y := -3e5 + 2*(x-1e6) + r.NormFloat64()
		pairs, x0, y0 = append(pairs, [2]float64{x, y}), x0+(x-1e6)/n, y0+(y+3e5)/n
		rows = append(rows, []string{strconv.FormatFloat(y, 'g', -1, 64), strconv.FormatFloat(x, 'g', -1, 64), ""})
	}
	x0, y0 = x0+1e6, y0-3e5
	for _, p := range pairs {
		dx, dy := p[0]-x0, p[1]-y0
		xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
	}
	want := []float64{xy / math.Sqrt(xx*yy), xy / (n - 1), xy / n, xy / xx, y0 - xy/xx*x0, xy * xy / xx / yy, yy / (n - 1), yy / n, math.Sqrt(yy / n)}
	for _, parts := range []int{1, 7} {
		for i, text := range aggregateRecords(t, "corr(y,x),covar_samp(y,x),covar_pop(y,x),regr_slope(y,x),regr_intercept(y,x),regr_r2(y,x),variance(y),var_pop(y),stddev_pop(y)", rows, parts) {
			if got := parseNumber(t, text).Float64(); math.Abs(got-want[i]) > 1e-9*math.Abs(want[i]) {
				t.Errorf("result %d in %d parts: %v, want %v", i+1, parts, got, want[i])
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct{ fraction, numbers, want string }{
		{"0.5", "", "none"},
		{"0.5", "7", "7"},
		{"0", "1 2 3", "1"},
		{"1", "1 2 3", "3"},
		{"0.5", "1 2", "1.5"},
		{"0.5", "1 2 4", "2"},
		{"0.9", "1 2", "1.9"},
		{"0.25", "1 2 3 4 5 6", "2.25"},
		{"0.5", "18446744073709551617 18446744073709551617", "18446744073709551617"}, // too large for an exact float
		{"0.5", "-1.5e308 1.7e308", "9.999999999999999e+306"},
		{"0.5", "1 1.0", "1"},
	} {
		specs := must.Get(Parse("quantile(x," + c.fraction + ")"))(t)
		p := NewProgram(specs, []Columns{{0, -1}})
		state, sorted := make([]uint64, p.Words), strings.Fields(c.numbers)
		for _, text := range sorted {
			v := p.NewValues(1)
			p.Parse(v, 0, [][]byte{[]byte(text)})
			p.Add([][]uint64{state}, v, 0)
		}
		got := "none"
		if r, ok := p.Rank(0, state); ok {
			text, err := p.AppendQuantile(nil, 0, r, parseNumber(t, sorted[r.Index]), parseNumber(t, sorted[min(int(r.Index)+1, len(sorted)-1)]))
			if got = string(text); err != nil {
				got = err.Error()
			}
		}
		if got != c.want && !(got != "none" && c.want != "none" && isClose(t, got, c.want)) {
			t.Errorf("quantile %s of %s = %s, want %s", c.fraction, c.numbers, got, c.want)
		}
	}
}

package filejobs

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/testutil/must"
)

func conditionOf(t *testing.T, text string, columns ...string) *condition {
	t.Helper()
	root := must.Get(where.ParseWithParts(text))(t)
	return must.Get(newCondition(root, nil, func(_ *where.Node, column string) (int, error) { return slices.Index(columns, column), nil }))(t)
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		text, x, y string
		want       truth
	}{
		{"x = 1", "1.0", "", yes},
		{"x = 1", " +1 ", "", yes},
		{"x > 9", "10", "", yes},
		{"x > '9'", "10", "", no},
		{"x > 0.1", "0.1", "", no},
		{"day(x) = '2026-06-01'", "2026-06-01T23:00:00Z", "", yes},
		{"'2026-06-02' > day(x)", "2026-06-02", "", no},
		{"month(x) in ('2026-05', '2026-06')", "2026-06-30 10:00", "", yes},
		{"day(x) is null", "", "", yes},
		{"day(x) != '2026-06-01'", "June", "", invalid},
		{"day(x) is null", "June", "", invalid},
		{"x = day(y)", "2026-06-01", "2026-06-01T10:00:00+02:00", yes},
		{"x = day(y)", "2026-06-01", "June", invalid},
		{"after(x, '.') is null", "a.", "", yes},
		{"before(after(x, '/'), '.', -1) like 'b%'", "a/b.c.d", "", yes},
		{"before(x, ':') > 7", "8:a", "", yes},
		{"before(x, ':') between 7 and 8", "9:8", "", no},
		{"not before(x, ':') = 'a'", "b:a", "", yes},
		{"x >= 18446744073709551617", "18446744073709551616", "", no},
		{"x < 18446744073709551617", "18446744073709551616.0", "", yes},
		{"x != 1", "", "", unknown},
		{"not x = 1", "", "", unknown},
		{"x is null", "", "", yes},
		{"x is not null", " ", "", yes},
		{"x = 1", "one", "", invalid},
		{"not x = 1", "one", "", invalid},
		{"x is null or x = 1", "one", "", invalid},
		{"x = 'one' or x = 1", "one", "", yes},
		{"x != 'one' and x = 1", "one", "", no},
		{"x = 1 or y = 2", "", "2", yes},
		{"x = 1 and y = 2", "", "2", unknown},
		{"x = 1 and y = 2", "", "3", no},
		{"x = 1 and y = 2", "one", "3", invalid},
		{"x = 1 and y = 2", "0", "two", no},
		{"x = 1 and y = 2", "", "two", invalid},
		{"x = 1 and y = 2", "1", "two", invalid},
		{"x = 1 or y = 2", "", "3", unknown},
		{"x = 1 or y = 2", "0", "3", no},
		{"x = 1 or y = 2", "", "two", invalid},
		{"x = 1 or y = 2", "one", "2", invalid},
		{"x = 1 or y = 2", "1", "two", yes},
		{"x in (1, 2.5)", "2.50", "", yes},
		{"x not in (1, 2)", "3", "", yes},
		{"x in ('a', 'it''s')", "it's", "", yes},
		{"x in ('a', '2026-01-31')", "b", "", no},
		{"x in ('2026-01-31', '2026-02-01')", "2026-02-01 00:00", "", yes},
		{"x in ('2026-01-31', '2026-02-01')", "b", "", invalid},
		{"x between 2 and 3", "2.5", "", yes},
		{"x < '2026-01-31T10:00:00Z'", "2026-01-31 10:00:00+01:00", "", yes},
		{"x = '2026-01-31 00:00:00.5'", "2026-01-31T00:00:00.500", "", yes},
		{"x > '2026-01-31 00:00:00'", "2026-01-31T00:00:00.001", "", yes},
		{"x = '23:59'", "23:59", "", yes},
		{"x like 'a_c%'", "abcd", "", yes},
		{"x like 'a!%' escape '!'", "a%", "", yes},
		{"x = true", "Yes", "", yes},
		{"x < true", "off", "", yes},
		{"x = true", "maybe", "", invalid},
		{"x < y", "9", "10", yes},
		{"x < y", "9", "10a", no},
		{"x = y", "1.0", "1", yes},
		{"x = y", "a", "", unknown},
		{"5 < x", "6", "", yes},
	} {
		cond := conditionOf(t, c.text, "x", "y")
		if got, _ := cond.eval([][]byte{[]byte(c.x), []byte(c.y)}); got != c.want {
			t.Errorf("%s with x = %q, y = %q is %d, want %d", c.text, c.x, c.y, got, c.want)
		}
	}
}

// TestConditionsByColumns checks that records split by columns give the same results as records with fields.
func TestConditionsByColumns(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	values := []string{"", "1", "-1", "2.5", "10", "9007199254740993", "1e3", "a", "it's", "true", "no", "2026-01-31", "2026-01-31 10:00:00", "x y"}
	leaves := []string{
		"x = 1", "y > 2", "x != 'a'", "y = 'a'", "x < y", "x is null", "y in ('a', '1')", "x in (1, 10)", "y like '%1%'", "x >= '2026-01-31'", "y = true", "x < 9007199254740993",
	}
	for range 500 {
		text := leaves[rnd.IntN(len(leaves))]
		for range rnd.IntN(4) {
			text = fmt.Sprintf([]string{"(%s) and %s", "(%s) or %s", "not (%s) or %s", "not ((%s) and %s)"}[rnd.IntN(4)], text, leaves[rnd.IntN(len(leaves))])
		}
		cond := conditionOf(t, text, "x", "y")
		const n = 40
		columns := records.NewColumns(3, n)
		var data strings.Builder
		fields := make([][][]byte, n)
		for i := range n {
			for f := range 3 {
				v := values[rnd.IntN(len(values))]
				columns.From[f][i] = uint32(data.Len())
				data.WriteString(v + "\n")
				columns.To[f][i] = uint32(data.Len() - 1)
				if f > 0 {
					fields[i] = append(fields[i], []byte(v))
				}
			}
		}
		columns.Data = []byte(data.String())
		out := make([]truth, n-5)
		cond.testColumns(columns, 1, 5, out)
		for i, got := range out {
			if want, _ := cond.eval(fields[5+i]); got != want {
				t.Fatalf("%s with %q is %d by columns, want %d", text, fields[5+i], got, want)
			}
		}
	}
}

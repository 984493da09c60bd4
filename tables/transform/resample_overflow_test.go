package transform_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// TestResampleFarApart checks that times in nanoseconds whose difference overflows int64 fall into the same
// bins as times in microseconds, and that too many bins are an error.
func TestResampleFarApart(t *testing.T) {
	s := newStore(t)
	for zone, suffix := range map[string]string{"": "", "Europe/Berlin": "Z"} {
		for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} {
			put(t, s, unit.String(), tables.PutReplace, rows(t, `[{"t":"2250-01-01 00:00:00`+suffix+`","x":2},{"t":"1700-01-01 00:00:00`+suffix+`","x":1}]`, timeField(unit, zone), arrow.Field{Name: "x", Type: integer}))
		}
		for _, rule := range []string{"240000h", "s", "36500D", "20YE", "500W", "10000B"} {
			for _, function := range []string{"nearest", "interpolate", "max"} {
				resampleUnit := func(unit arrow.TimeUnit) (string, error) {
					o := transform.ResampleOptions{Source: tableName(unit.String()), Target: tableName("out"), Rule: rule, TimeColumn: "t", Functions: []string{function}, Mode: tables.PutReplace}
					if _, err := transform.Resample(t.Context(), s, &o); err != nil {
						return "", err
					}
					text, _ := text(t, s, "out")
					return text, nil
				}
				want, err := resampleUnit(arrow.Microsecond)
				if (err != nil) != (rule == "s") || (want == "") != (rule == "s") {
					t.Errorf("rule %s, function %s, microseconds: rows %s, error %v; want an error only for rule s", rule, function, want, err)
				}
				got, err := resampleUnit(arrow.Nanosecond)
				if (err != nil && strings.Contains(err.Error(), "more than 1073741824 bins")) != (rule == "s") || got != want {
					t.Errorf("rule %s, zone %q, function %s, nanoseconds: error %v, rows %s\nwant %s", rule, zone, function, err, got, want)
				}
			}
		}
	}
}

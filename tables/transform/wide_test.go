package transform_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// Nanoseconds that are further from each other than int64 holds are in the bins that
// microseconds are in, and too many bins are too many.
func TestResampleFarApart(t *testing.T) {
	s := newStore(t)
	for zone, z := range map[string]string{"": "", "Europe/Berlin": "Z"} {
		for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} {
			put(t, s, unit.String(), tables.PutReplace, rows(t, `[{"t":"2250-01-01 00:00:00`+z+`","x":2},{"t":"1700-01-01 00:00:00`+z+`","x":1}]`, stamps(unit, zone), arrow.Field{Name: "x", Type: integer}))
		}
		for _, rule := range []string{"240000h", "s", "36500D", "20YE", "500W", "10000B"} {
			for _, function := range []string{"nearest", "interpolate", "max"} {
				of := func(unit arrow.TimeUnit) (string, error) {
					o := transform.ResampleOptions{Source: named(unit.String()), Target: named("out"), Rule: rule, TimeColumn: "t", Functions: []string{function}, Mode: tables.PutReplace}
					if _, err := transform.Resample(t.Context(), s, &o); err != nil {
						return "", err
					}
					text, _ := text(t, s, "out")
					return text, nil
				}
				want, err := of(arrow.Microsecond)
				if (err != nil) != (rule == "s") || (want == "") != (rule == "s") {
					t.Errorf("%s, %s: %s %v", rule, function, want, err)
				}
				got, err := of(arrow.Nanosecond)
				if (err != nil && strings.Contains(err.Error(), "more than 1073741824 bins")) != (rule == "s") || got != want {
					t.Errorf("%s of %s, %s: %v %s\nwant %s", rule, zone, function, err, got, want)
				}
			}
		}
	}
}

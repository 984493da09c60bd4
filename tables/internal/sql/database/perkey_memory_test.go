//go:build cgo

package database

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestMemoryFactor(t *testing.T) {
	d := openDatabase(t, 256<<20)
	for sql, want := range map[string]int64{
		"SELECT k, count(*), median(v), min(s) FROM l GROUP BY k":                             1,
		"SELECT DISTINCT k FROM l":                                                            1,
		"SELECT k, count(DISTINCT s) FROM l GROUP BY k":                                       2,
		"SELECT k, Histogram(s), mode(s) FROM l GROUP BY k":                                   3,
		"SELECT k, s FROM l JOIN (SELECT k, list(v ORDER BY ts) FROM r GROUP BY k) USING (k)": 8,
		"SELECT k, list(v ORDER BY ts), list(DISTINCT v) FROM r GROUP BY k":                   8,
	} {
		if got := must.Get(d.MemoryFactor(sql))(t); got != want {
			t.Errorf("%s: %d, want %d", sql, got, want)
		}
	}
}

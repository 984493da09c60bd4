//go:build cgo

package database

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestFindKeys checks the keys that are found in statements. A leading - means that there is none, for the reason that
// follows.
func TestFindKeys(t *testing.T) {
	d := openDatabase(t, 256<<20)
	for sql, want := range map[string]string{
		"SELECT k, count(*) FROM l GROUP BY k":                                                 "l=k",
		"SELECT k, j, list(v) FROM l GROUP BY j, k":                                            "l=k,j",
		"SELECT K, row_number() OVER (PARTITION BY k, s) FROM l":                               "l=k,s",
		"SELECT k, row_number() OVER (PARTITION BY k), sum(v) OVER (PARTITION BY k, j) FROM l": "l=k",
		"SELECT v FROM l WHERE w > 1":                                                          "l=v,w",
		"SELECT DISTINCT * FROM r":                                                             "r=k,j,s,f,v,w,ts,u",
		"SELECT DISTINCT tags FROM l":                                                          `-"it has no columns, one of each input, that could be the key"`,
		"SELECT count(*) FROM l":                                                               `-"could be the key"`,
		"SELECT sum(v) FROM l":                                                                 `-"with the key \"v\""`,
		"SELECT k, count(*) FROM l GROUP BY k UNION ALL SELECT j, count(*) FROM l GROUP BY j":  `-"with the key \"k\""`,
		"SELECT l.v, r.u FROM l JOIN r USING (k)":                                              "l=k r=k",
		"SELECT l.v, r.u FROM l JOIN r ON l.k = r.j AND l.s = r.s":                             "l=k,s r=j,s",
		"SELECT l.k, count(*) FROM l JOIN r ON l.k = r.j AND l.s = r.s GROUP BY l.k":           "l=k r=j",
		"SELECT l.v, m.y FROM l JOIN r ON l.k = r.j JOIN m ON r.j = m.x":                       "l=k r=j m=x",
		"SELECT l.v FROM l JOIN r ON l.k = r.k AND l.k = r.j":                                  "l=k r=k",
		"SELECT l.v FROM l, r WHERE l.k < r.k":                                                 `-"with the key \"k\""`,
		"SELECT k, v FROM l UNION ALL SELECT m.x, m.y FROM m":                                  "l=k,v m=k,v",
		"SELECT k, v FROM l EXCEPT ALL SELECT m.x, m.y FROM m":                                 "l=k,v m=x,y",
		"SELECT * FROM l ASOF JOIN r ON l.k = r.k AND l.ts >= r.ts":                            "l=k r=k",
	} {
		var inputs []KeyedInput
		for _, name := range []string{"l", "r", "m"} {
			if strings.Contains(sql, " "+name+" ") || strings.HasSuffix(sql, " "+name) || strings.Contains(sql, " "+name+",") {
				inputs = append(inputs, keyedInputs("k", name)...)
			}
		}
		err := d.FindKeys(sql, inputs, func(columns []string) bool { return !slices.Contains(columns, "tags") })
		var got []string
		for _, in := range inputs {
			got = append(got, in.Name+"="+strings.Join(in.By, ","))
		}
		if reason, isRefused := strings.CutPrefix(want, "-"); isRefused {
			var text string
			must.Get(fmt.Sscanf(reason, "%q", &text))(t)
			if !errors.Is(err, sqltext.ErrNotPerKey) || !strings.Contains(err.Error(), text) {
				t.Errorf("FindKeys(%q) = %v, error %v, want an error with %q", sql, got, err, text)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("FindKeys(%q) = %v, error %v, want %s", sql, got, err, want)
		}
	}
}

package main

import (
	"testing"

	"github.com/go-partd/partd/bench/internal/appendload"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

// TestEveryStoreIsChecked checks that a small run of each store reads back the appended values.
func TestEveryStoreIsChecked(t *testing.T) {
	for _, dist := range []string{"uniform", "zipf", "hot"} {
		for _, name := range appendload.Names {
			l := must.Get(appendload.NewLoad(300, 20_000, 100, 1000, dist))(t)
			r, err := measure(name, t.TempDir(), l, &logstore.Options{Memory: 16 << 20})
			if err != nil {
				t.Errorf("measure(%s) with %s keys: %v", name, dist, err)
			} else if r.ScanRead != 20_000*100 {
				t.Errorf("%s, %s: the scan read %d bytes, want all values", name, dist, r.ScanRead)
			}
		}
	}
}

// TestCompareScans checks with little data that the compared scans read all values.
func TestCompareScans(t *testing.T) {
	f := flags{bytes: 1 << 20, memory: 16 << 20, value: 100, batch: 1000, rounds: 1, dir: t.TempDir()}
	must.Do(t, f.compareScans())
}

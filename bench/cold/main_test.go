package main

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/bench/internal/appendload"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

// TestJobsCheckAllValues runs a small job of each store, which fails unless it reads all values.
func TestJobsCheckAllValues(t *testing.T) {
	for _, dist := range []string{"uniform", "zipf"} {
		for _, name := range strings.Split(goStores, ",") {
			l := must.Get(appendload.NewLoad(300, 20_000, valueLen, batchLen, dist))(t)
			t.Chdir(t.TempDir())
			r, err := measure(name, l, &logstore.Options{Memory: logstore.MinMemory})
			if err != nil {
				t.Errorf("measure(%s) with %s keys: %v", name, dist, err)
			} else if r.InputBytes != 20_000*valueLen || r.AppendSec <= 0 || r.ReadSec <= 0 {
				t.Errorf("measure(%s) with %s keys = %+v", name, dist, r)
			}
		}
	}
}

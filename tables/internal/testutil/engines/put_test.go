package engines

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// testPutVisible checks that the next query of every engine sees a row that was just put through Flight, and is not yet
// in a file. PARTD_ROUNDS is the number of queries of each engine.
func testPutVisible(t *testing.T, o *flightClient, engines map[string]*engine) {
	const name = "live.ticks"
	if err := o.putRow(name, 0); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() { // an endless stream
		for n := int64(-1); ctx.Err() == nil; n-- {
			if err := o.putRow(name, n); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	defer writer.Wait()
	defer stop()
	for n := range int64(intFromEnv("PARTD_ROUNDS", 2)) {
		for kind, e := range engines {
			if err := o.putRow(name, n); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			rows, isVisible := e.mustRun("rows", "table", name), false
			for _, r := range rows {
				isVisible = isVisible || fmt.Sprint(r["n"]) == fmt.Sprint(n)
			}
			if !isVisible {
				t.Errorf("%s does not see row %d, which was just put, among %d rows", kind, n, len(rows))
			}
			t.Logf("%s: %s", kind, time.Since(start).Round(time.Millisecond))
		}
	}
}

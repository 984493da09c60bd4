package partdtest

import (
	"context"
	"fmt"
	"iter"
	"maps"

	"github.com/go-partd/partd"
)

// scanChunks scans values of one chunk, values of many chunks, and empty values.
func scanChunks(e *env) {
	e.check("Scan of an empty store")
	e.fill(300)
	e.append(entry("large", randomText(e.suite.opts.LargeValue, 3)))
	for i := range 50 {
		e.append(entry("pieces", repeat(string(rune('a'+i%26)), 1+i*i)), entry("key 7", "+"))
	}
	if e.suite.can[CanSet] {
		e.set("empty", "")
		chunks := 0
		for c, err := range partd.Scan(e.ctx, e.store) {
			e.must("Scan", err)
			if c.Key == "empty" {
				chunks++
				if c.Offset != 0 || len(c.Data) != 0 || !c.Last {
					e.Errorf("a key with an empty value must be one empty chunk with Last, not %+v", c)
				}
			}
		}
		if chunks != 1 {
			e.Errorf("a key with an empty value must be one chunk, not %d", chunks)
		}
	}
	for range 2 {
		e.check("Scan")
	}
	e.checkReopened()
}

func scanBreak(e *env) {
	e.fill(100)
	e.append(entry("large", randomText(1<<20, 3)))
	scan := func() iter.Seq2[partd.Chunk, error] { return partd.Scan(e.ctx, e.store) }
	e.checkUsable("a break out of Scan", func() error {
		if err := breakAfter(scan, 1, 2, 3, 10, 50, 100); err != nil {
			return err
		}
		// Break in the middle of a value, if the store splits it.
		return breakOut(scan(), func(_ int, c partd.Chunk) bool { return c.Key == "large" && c.Offset == 0 })
	})
}

func scanBody(e *env) {
	e.fill(50)
	appended := model{}
	e.withTimeout("a loop over Scan that gets and appends", func() error {
		for c, err := range partd.Scan(e.ctx, e.store) {
			if err != nil {
				return err
			}
			if _, filled := e.model[c.Key]; !filled {
				continue // this loop created the key
			}
			v, err := e.store.Get(e.ctx, c.Key)
			if err != nil {
				return err
			}
			if err := differenceError("Get in a loop over Scan", v[0], e.model[c.Key]); err != nil {
				return err
			}
			piece := entry("copy of "+c.Key, string(c.Data))
			if err := e.store.Append(e.ctx, piece); err != nil {
				return err
			}
			appended.append(piece)
		}
		return nil
	})
	for k, v := range maps.Clone(e.model) {
		if appended["copy of "+k] != v {
			e.Fatalf("key %q: the data appended in a loop over Scan differs from the scanned value", k)
		}
		e.model["copy of "+k] = v
	}
	e.check("after a loop over Scan")
}

func scanCancelled(e *env) {
	e.fill(300)
	total := 0
	for _, v := range e.model {
		total += len(v)
	}
	scan := func(ctx context.Context) iter.Seq2[partd.Chunk, error] { return partd.Scan(ctx, e.store) }
	checkCancelled(e, "Scan", total, scan, func(c partd.Chunk) int { return len(c.Data) })
	e.check("after a cancelled Scan")
}

func scanNested(e *env) {
	e.fill(100)
	e.withTimeout("a nested Scan", func() error {
		n := 0
		for _, err := range partd.Scan(e.ctx, e.store) {
			if err != nil {
				return err
			}
			n++
			if n%40 != 1 {
				continue
			}
			if err := compareScan(e.ctx, e.store, e.model); err != nil {
				return fmt.Errorf("nested: %w", err)
			}
		}
		return nil
	})
	e.check("after nested Scans")
}

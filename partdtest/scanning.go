package partdtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// scanChecks returns the checks of Scan. Every comparison with a model also calls Scan, and scanInto
// then checks the order of the chunks.
func scanChecks() []check {
	return []check{
		{name: "scan-chunks", requires: []Ability{CanScan}, run: scanChunks},
		{name: "scan-break", requires: []Ability{CanScan}, run: scanBreak},
		{name: "scan-body-uses-store", requires: []Ability{CanScan}, run: scanBody},
		{name: "scan-cancelled", requires: []Ability{CanScan}, run: scanCancelled},
		{name: "scan-nested", requires: []Ability{CanScan}, run: scanNested},
	}
}

// scanChunks scans values of one chunk, values of many chunks, and empty values.
func scanChunks(e *env) {
	e.want("Scan of an empty store", nil)
	want := e.fill(300)
	want["large"] = string(randomBytes(e.suite.opts.LargeValue, 3))
	e.append(entry("large", want["large"]))
	for i := range 50 {
		v := repeat(string(rune('a'+i%26)), 1+i*i)
		e.append(entry("pieces", v), entry("key 7", "+"))
		want["pieces"] += v
		want["key 7"] += "+"
	}
	if e.suite.can[CanSet] {
		e.set("empty", "")
		want["empty"] = ""
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
		e.want("Scan", want)
	}
	if e.reopen() {
		e.want("Scan after reopening", want)
	}
}

func scanBreak(e *env) {
	want := e.fill(100)
	want["large"] = string(randomBytes(1<<20, 3))
	e.append(entry("large", want["large"]))
	e.withTimeout("use of the store after a break out of Scan", func() error {
		for _, limit := range []int{1, 2, 3, 10, 50, 100} {
			n := 0
			for _, err := range partd.Scan(e.ctx, e.store) {
				if err != nil {
					return err
				}
				if n++; n == limit {
					break
				}
			}
		}
		for c, err := range partd.Scan(e.ctx, e.store) {
			if err != nil {
				return err
			}
			if c.Key == "large" && c.Offset == 0 {
				break // in the middle of a value, if the store splits it
			}
		}
		return e.store.Append(e.ctx, entry("a", "1"))
	})
	want["a"] = "1"
	e.want("after a break out of Scan", want)
}

func scanBody(e *env) {
	want := e.fill(50)
	appended := model{}
	e.withTimeout("a loop over Scan that gets and appends", func() error {
		seen := map[string]int{}
		for c, err := range partd.Scan(e.ctx, e.store) {
			if err != nil {
				return err
			}
			if _, filled := want[c.Key]; !filled {
				continue // this loop created the key
			}
			v, err := e.store.Get(e.ctx, c.Key)
			if err != nil {
				return err
			}
			if err := differenceError("Get in a loop over Scan", v[0], want[c.Key]); err != nil {
				return err
			}
			if err := e.store.Append(e.ctx, entry("copy of "+c.Key, string(c.Data))); err != nil {
				return err
			}
			if len(c.Data) > 0 {
				appended["copy of "+c.Key] += string(c.Data)
			}
			seen[c.Key] += len(c.Data)
		}
		for k, v := range want {
			if seen[k] != len(v) {
				return fmt.Errorf("the Scan iterator yielded %d of %d bytes of key %q, while the loop appended to other keys", seen[k], len(v), k)
			}
		}
		return nil
	})
	for k, v := range appended {
		if v != want[k[len("copy of "):]] {
			e.Fatalf("key %q: the data appended in a loop over Scan differs from the scanned value", k)
		}
		want[k] = v
	}
	e.want("after a loop over Scan", want)
}

func scanCancelled(e *env) {
	want := e.fill(300)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	yielded, total := 0, 0
	for _, v := range want {
		total += len(v)
	}
	var scanErr error
	for c, err := range partd.Scan(ctx, e.store) {
		if scanErr != nil {
			e.Fatalf("Scan continues after its error %v", scanErr)
		}
		scanErr = err
		yielded += len(c.Data)
		cancel()
	}
	if scanErr == nil && yielded != total || scanErr != nil && !errors.Is(scanErr, context.Canceled) {
		e.Fatalf("Scan, cancelled after the first chunk, yielded %d of %d bytes and the error %v", yielded, total, scanErr)
	}
	e.want("after a cancelled Scan", want)
}

func scanNested(e *env) {
	want := e.fill(100)
	e.withTimeout("a nested Scan", func() error {
		n := 0
		for _, err := range partd.Scan(e.ctx, e.store) {
			if err != nil {
				return err
			}
			if n++; n%40 != 1 {
				continue
			}
			values, err := scanAll(e.ctx, e.store)
			if err != nil {
				return err
			}
			for k, v := range want {
				if err := differenceError("nested Scan, key "+partd.QuoteKey(k), values[k], v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	e.want("after nested Scans", want)
}

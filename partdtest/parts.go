package partdtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-partd/partd"
)

// partChecks returns the checks of ScanPart. They also check the order of chunks, in scanInto.
func partChecks() []check {
	return []check{
		{name: "scan-parts", requires: []Ability{CanScan}, run: partsComplete},
		{name: "scan-parts-max", requires: []Ability{CanScan}, run: partsMax},
		{name: "scan-part-wrong-number", requires: []Ability{CanScan}, run: partInvalid},
		{name: "scan-part-break", requires: []Ability{CanScan}, run: partBreak},
		{name: "scan-part-cancelled", requires: []Ability{CanScan}, run: partCancelled},
	}
}

// wantParts scans the parts with the given indexes, and checks that each key of want is in one part.
func (e *env) wantParts(label string, parts int, indexes iter.Seq[int], want model) {
	e.Helper()
	values, err := scanParts(e.ctx, e.store, parts, indexes)
	if err == nil {
		err = sameKeys(fmt.Sprintf("the %d parts together", parts), values, want)
	}
	for k := range want {
		if err == nil {
			err = differenceError("part scan, key "+partd.QuoteKey(k), values[k], want[k])
		}
	}
	if err != nil {
		e.Fatalf("%s: %v", label, err)
	}
}

// partsComplete scans values of one chunk, values of many chunks, and empty values, in parts.
func partsComplete(e *env) {
	e.wantParts("ScanPart of an empty store", 3, allParts(3), nil)
	want := e.fill(300)
	want["large"] = string(randomBytes(1<<20, 3))
	e.append(entry("large", want["large"]))
	if e.suite.can[CanSet] {
		e.set("empty", "")
		want["empty"] = ""
	}
	for _, parts := range []int{1, 2, 3, 16} {
		e.wantParts("ScanPart", parts, allParts(parts), want)
	}
	original := e.keysByPart(16)
	for part, keys := range original {
		if len(keys) > len(want)/2 {
			e.Errorf("part %d of 16 has %d of %d keys, which leaves too few to the other parts", part, len(keys), len(want))
		}
	}
	compareParts := func(label string) {
		for part, keys := range e.keysByPart(16) {
			if !slices.Equal(keys, original[part]) {
				e.Fatalf("%s: part %d of 16 has the keys %q, but had %q earlier", label, part, keys, original[part])
			}
		}
	}
	compareParts("repeated scan")
	if e.reopen() {
		compareParts("after reopening")
		e.wantParts("ScanPart after reopening", 3, allParts(3), want)
	}
}

func (e *env) keysByPart(parts int) [][]string {
	e.Helper()
	keys := make([][]string, parts)
	for part := range parts {
		for c, err := range partd.ScanPart(e.ctx, e.store, part, parts) {
			e.must("ScanPart", err)
			if c.Last {
				keys[part] = append(keys[part], c.Key)
			}
		}
		slices.Sort(keys[part])
	}
	return keys
}

// partsMax scans the maximum number of parts, in random order. If the store is slow, partsMax stops
// early, and does not check that it has seen all keys.
func partsMax(e *env) {
	const timeLimit = 5 * time.Second // a fifth of this limit applies if less than a fifth of the parts was scanned by then
	want := model{}
	for _, k := range numberedKeys(30) {
		want[k] = k
		e.append(entry(k, k))
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(partd.MaxParts)
	scanned, start := 0, time.Now()
	indexes := func(yield func(int) bool) {
		for _, part := range order {
			if elapsed := time.Since(start); elapsed > timeLimit || elapsed > timeLimit/5 && scanned < partd.MaxParts/5 || !yield(part) {
				return
			}
			scanned++
		}
	}
	values, err := scanParts(e.ctx, e.store, partd.MaxParts, indexes)
	e.must("ScanPart", err)
	if scanned == partd.MaxParts {
		e.must("ScanPart", sameKeys("the 65,536 parts together", values, want))
	} else {
		e.Logf("scanned %d of %d parts in %v", scanned, partd.MaxParts, time.Since(start))
	}
	for k, v := range values {
		e.must("ScanPart", differenceError("part scan, key "+partd.QuoteKey(k), v, want[k]))
	}
}

func partInvalid(e *env) {
	want := e.fill(20)
	for _, invalid := range []struct{ part, parts int }{
		{0, 0}, {0, -1}, {-1, 1}, {1, 1}, {4, 4}, {-1, 4}, {5, 4}, {0, partd.MaxParts + 1}, {partd.MaxParts, partd.MaxParts}, {math.MaxInt - 1, math.MaxInt},
	} {
		scans := map[string]iter.Seq2[partd.Chunk, error]{"partd.ScanPart": partd.ScanPart(e.ctx, e.store, invalid.part, invalid.parts)}
		if s, ok := e.store.(partd.PartScanner); ok {
			scans["the store's ScanPart"] = s.ScanPart(e.ctx, invalid.part, invalid.parts)
		}
		for label, chunks := range scans {
			n := 0
			for c, err := range chunks {
				if n++; err == nil || n > 1 || c.Key != "" || len(c.Data) > 0 {
					e.Errorf("%s of part %d of %d yields key %q and error %v, want one error without data", label, invalid.part, invalid.parts, c.Key, err)
					break
				}
				if errors.Is(err, errors.ErrUnsupported) {
					e.Errorf("%s of part %d of %d: the numbers are invalid for any store, but the error is %v", label, invalid.part, invalid.parts, err)
				}
			}
			if n == 0 {
				e.Errorf("%s of part %d of %d yields no error", label, invalid.part, invalid.parts)
			}
		}
	}
	e.want("after ScanPart with invalid numbers", want)
}

func partBreak(e *env) {
	want := e.fill(100)
	want["large"] = string(randomBytes(1<<20, 3))
	e.append(entry("large", want["large"]))
	e.withTimeout("use of the store after a break out of ScanPart", func() error {
		for part := range 4 {
			for _, limit := range []int{1, 2, 10} {
				n := 0
				for _, err := range partd.ScanPart(e.ctx, e.store, part, 4) {
					if err != nil {
						return err
					}
					if n++; n == limit {
						break
					}
				}
			}
		}
		return e.store.Append(e.ctx, entry("a", "1"))
	})
	want["a"] = "1"
	e.wantParts("after a break out of ScanPart", 2, allParts(2), want)
}

func partCancelled(e *env) {
	want := e.fill(300)
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	partValues := map[string][]byte{}
	e.must("ScanPart", scanInto(partValues, partd.ScanPart(e.ctx, e.store, 1, 2)))
	keys := 0
	var scanErr error
	for c, err := range partd.ScanPart(ctx, e.store, 1, 2) {
		if scanErr != nil {
			e.Fatalf("ScanPart continues after its error %v", scanErr)
		}
		if scanErr = err; c.Last {
			keys++
		}
		cancel(errSibling)
	}
	if scanErr == nil && keys != len(partValues) || scanErr != nil && !isCancelledError(scanErr) {
		e.Fatalf("ScanPart, cancelled after the first chunk, yielded %d of %d keys and the error %v", keys, len(partValues), scanErr)
	}
	cancel(errSibling) // if part 1 is empty, the loop has not canceled ctx
	for _, err := range partd.ScanPart(ctx, e.store, 0, 2) {
		if err == nil {
			e.Fatalf("ScanPart with a cancelled context yields a chunk")
		}
		scanErr = err
	}
	if !isCancelledError(scanErr) {
		e.Fatalf("ScanPart with a cancelled context ends with the error %v", scanErr)
	}
	e.want("after a cancelled ScanPart", want)
}

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

// checkParts scans all parts and checks that each key of the model is in one of them.
func (e *env) checkParts(label string, parts int) {
	e.Helper()
	values, err := scanParts(e.ctx, e.store, parts, allParts(parts))
	if err == nil {
		err = sameContent(fmt.Sprintf("the %d parts together", parts), values, e.model)
	}
	e.must(label, err)
}

func allParts(parts int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for part := range parts {
			if !yield(part) {
				return
			}
		}
	}
}

// partsComplete scans values of one chunk, values of many chunks, and empty values, in parts.
func partsComplete(e *env) {
	e.checkParts("ScanPart of an empty store", 3)
	e.fill(300)
	e.append(entry("large", randomText(1<<20, 3)))
	if e.suite.can[CanSet] {
		e.set("empty", "")
	}
	for _, parts := range []int{1, 2, 3, 16} {
		e.checkParts("ScanPart", parts)
	}
	original := e.keysByPart(16)
	for part, keys := range original {
		if len(keys) > len(e.model)/2 {
			e.Errorf("part %d of 16 has %d of %d keys, which leaves too few for the other parts", part, len(keys), len(e.model))
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
		e.checkParts("ScanPart after reopening", 3)
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

// partsMax divides a scan into the maximum number of parts. It scans them, or only Options.Parts of them, in random
// order. If the store is slow, partsMax stops early and does not check that it has seen all keys.
func partsMax(e *env) {
	// the scan stops after a fifth of this limit if it has scanned less than a fifth of the parts
	timeLimit := e.suite.partsTime
	for _, k := range numberedKeys(30) {
		e.append(entry(k, k))
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(partd.MaxParts)
	if n := e.suite.opts.Parts; n > 0 {
		order = rand.Perm(partd.MaxParts)[:n]
	}
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
		e.must("ScanPart", sameKeys("the 65,536 parts together", values, e.model))
	} else {
		e.Logf("scanned %d of %d parts in %v", scanned, partd.MaxParts, time.Since(start))
	}
	e.must("ScanPart", sameValues("part scan", values, e.model))
}

func partInvalid(e *env) {
	e.fill(20)
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
				n++
				if err == nil || n > 1 || c.Key != "" || len(c.Data) > 0 {
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
	e.check("after ScanPart with invalid numbers")
}

func partBreak(e *env) {
	e.fill(100)
	e.append(entry("large", randomText(1<<20, 3)))
	e.checkUsable("a break out of ScanPart", func() error {
		for part := range 4 {
			scan := func() iter.Seq2[partd.Chunk, error] { return partd.ScanPart(e.ctx, e.store, part, 4) }
			if err := breakAfter(scan, 1, 2, 10); err != nil {
				return err
			}
		}
		return nil
	})
	e.checkParts("after a break out of ScanPart", 2)
}

func partCancelled(e *env) {
	e.fill(300)
	partValues := map[string][]byte{}
	e.must("ScanPart", scanInto(partValues, partd.ScanPart(e.ctx, e.store, 1, 2)))
	scan := func(ctx context.Context) iter.Seq2[partd.Chunk, error] { return partd.ScanPart(ctx, e.store, 1, 2) }
	checkCancelled(e, "ScanPart", len(partValues), scan, func(c partd.Chunk) int {
		if c.Last {
			return 1
		}
		return 0
	})
	err := each("ScanPart", partd.ScanPart(cancelledContext(e.ctx), e.store, 0, 2), func(partd.Chunk) error {
		return errors.New("a chunk despite the cancelled context")
	})
	if !isCancelledError(err) {
		e.Fatalf("ScanPart with a cancelled context ends with the error %v", err)
	}
	e.check("after a cancelled ScanPart")
}

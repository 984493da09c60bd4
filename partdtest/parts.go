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

// partChecks are of ScanPart. That a part's chunks are in order is checked by
// scanParts.
func partChecks() []check {
	return []check{
		{name: "scan-parts", needs: []Ability{CanScan}, run: partsOfAll},
		{name: "scan-parts-most", needs: []Ability{CanScan}, run: partsMost},
		{name: "scan-part-wrong-number", needs: []Ability{CanScan}, run: partWrong},
		{name: "scan-part-break", needs: []Ability{CanScan}, run: partBreak},
		{name: "scan-part-cancelled", needs: []Ability{CanScan}, run: partCancelled},
	}
}

// wantParts checks that parts are disjoint and complete.
func (e *env) wantParts(what string, parts int, some iter.Seq[int], want model) {
	e.Helper()
	all, err := scanParts(e.ctx, e.store, parts, some)
	if err == nil {
		err = sameKeys(fmt.Sprintf("the %d parts together", parts), all, want)
	}
	for k := range want {
		if err == nil {
			err = differ("part scan, key "+partd.QuoteKey(k), all[k], want[k])
		}
	}
	if err != nil {
		e.Fatalf("%s: %v", what, err)
	}
}

// partsOfAll divides keys of one chunk, of many, and of none.
func partsOfAll(e *env) {
	e.wantParts("ScanPart of an empty store", 3, allParts(3), nil)
	want := e.fill(300)
	want["large"] = string(noise(1<<20, 3))
	e.append(entry("large", want["large"]))
	if e.suite.can[CanSet] {
		e.set("empty", "")
		want["empty"] = ""
	}
	for _, parts := range []int{1, 2, 3, 16} {
		e.wantParts("ScanPart", parts, allParts(parts), want)
	}
	before := e.keysByPart(16)
	for part, keys := range before {
		if len(keys) > len(want)/2 {
			e.Errorf("of %d keys part %d of 16 has %d: readers of the others have next to nothing to do", len(want), part, len(keys))
		}
	}
	again := func(why string) {
		for part, keys := range e.keysByPart(16) {
			if !slices.Equal(keys, before[part]) {
				e.Fatalf("%s part %d of 16 has the keys %q, before it had %q", why, part, keys, before[part])
			}
		}
	}
	again("asked again,")
	if e.reopen() {
		again("opened again,")
		e.wantParts("ScanPart after opening again", 3, allParts(3), want)
	}
}

// keysByPart returns the keys of each part, sorted.
func (e *env) keysByPart(parts int) [][]string {
	e.Helper()
	all := make([][]string, parts)
	for part := range parts {
		for c, err := range partd.ScanPart(e.ctx, e.store, part, parts) {
			e.must("ScanPart", err)
			if c.Last {
				all[part] = append(all[part], c.Key)
			}
		}
		slices.Sort(all[part])
	}
	return all
}

// partsMost asks for as many parts as there may be, in any order. A store that takes
// long for it is asked for some: that nothing is missing then remains open.
func partsMost(e *env) {
	const enough = 5 * time.Second // a fifth of it shows that they are too many
	want := model{}
	for _, k := range numberedKeys(30) {
		want[k] = k
		e.append(entry(k, k))
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(partd.MaxParts)
	asked, begun := 0, time.Now()
	some := func(yield func(int) bool) {
		for _, part := range order {
			if took := time.Since(begun); took > enough || took > enough/5 && asked < partd.MaxParts/5 || !yield(part) {
				return
			}
			asked++
		}
	}
	all, err := scanParts(e.ctx, e.store, partd.MaxParts, some)
	e.must("ScanPart", err)
	if asked == partd.MaxParts {
		e.must("ScanPart", sameKeys("the 65,536 parts together", all, want))
	} else {
		e.Logf("asked for %d of %d parts in %v", asked, partd.MaxParts, time.Since(begun))
	}
	for k, v := range all {
		e.must("ScanPart", differ("part scan, key "+partd.QuoteKey(k), v, want[k]))
	}
}

// partWrong asks for parts that there are not.
func partWrong(e *env) {
	want := e.fill(20)
	for _, wrong := range []struct{ part, parts int }{
		{0, 0}, {0, -1}, {-1, 1}, {1, 1}, {4, 4}, {-1, 4}, {5, 4}, {0, partd.MaxParts + 1}, {partd.MaxParts, partd.MaxParts}, {math.MaxInt - 1, math.MaxInt},
	} {
		scan := map[string]iter.Seq2[partd.Chunk, error]{"partd.ScanPart": partd.ScanPart(e.ctx, e.store, wrong.part, wrong.parts)}
		if s, ok := e.store.(partd.PartScanner); ok {
			scan["the store's ScanPart"] = s.ScanPart(e.ctx, wrong.part, wrong.parts)
		}
		for what, chunks := range scan {
			n := 0
			for c, err := range chunks {
				if n++; err == nil || n > 1 || c.Key != "" || len(c.Data) > 0 {
					e.Errorf("%s of part %d of %d yields key %q and the error %v: it should be one error without data", what, wrong.part, wrong.parts, c.Key, err)
					break
				}
				if errors.Is(err, errors.ErrUnsupported) {
					e.Errorf("%s of part %d of %d is wrong whatever the store can do, not %v", what, wrong.part, wrong.parts, err)
				}
			}
			if n == 0 {
				e.Errorf("%s of part %d of %d yields no error", what, wrong.part, wrong.parts)
			}
		}
	}
	e.want("ScanPart with wrong numbers", want)
}

func partBreak(e *env) {
	want := e.fill(100)
	want["large"] = string(noise(1<<20, 3))
	e.append(entry("large", want["large"]))
	e.within("use of the store after a break out of ScanPart", func() error {
		for part := range 4 {
			for _, after := range []int{1, 2, 10} {
				n := 0
				for _, err := range partd.ScanPart(e.ctx, e.store, part, 4) {
					if err != nil {
						return err
					}
					if n++; n == after {
						break
					}
				}
			}
		}
		return e.store.Append(e.ctx, entry("a", "1"))
	})
	want["a"] = "1"
	e.wantParts("a break out of ScanPart", 2, allParts(2), want)
}

func partCancelled(e *env) {
	want := e.fill(300)
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	whole := map[string][]byte{}
	e.must("ScanPart", scanInto(whole, partd.ScanPart(e.ctx, e.store, 1, 2)))
	keys := 0
	var failed error
	for c, err := range partd.ScanPart(ctx, e.store, 1, 2) {
		if failed != nil {
			e.Fatalf("ScanPart goes on after its error %v", failed)
		}
		if failed = err; c.Last {
			keys++
		}
		cancel(errSibling)
	}
	if failed == nil && keys != len(whole) || failed != nil && !tellsOfEnd(failed) {
		e.Fatalf("ScanPart, cancelled after the first chunk, yielded %d of %d keys and the error %v", keys, len(whole), failed)
	}
	cancel(errSibling) // the part may have had no keys
	for _, err := range partd.ScanPart(ctx, e.store, 0, 2) {
		if err == nil {
			e.Fatalf("ScanPart with a context that was cancelled before yields a chunk")
		}
		failed = err
	}
	if !tellsOfEnd(failed) {
		e.Fatalf("ScanPart with a context that was cancelled before ends with the error %v", failed)
	}
	e.want("ScanPart that was cancelled", want)
}

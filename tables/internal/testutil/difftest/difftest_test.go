package difftest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// runSpec defines a run. The seed determines the whole run; the other fields leave out parts of it.
type runSpec struct {
	seed    uint64
	Seed    string `json:"seed"`
	Steps   []int  `json:"steps"`   // numbers of the steps, in order
	Without []int  `json:"without"` // numbers of the omitted columns
	MaxRows int    `json:"max_rows"`
}

type counts struct {
	Schemas, Steps, Comparisons int
	Foreign                     map[string]int // number of tables that each peer read
}

// repeatEnv is the environment variable that contains a runSpec to repeat.
const repeatEnv = "PARTD_DIFF_AGAIN"

type failure struct {
	err       error
	log       []string
	stepCount int // number of completed steps
}

func (f *harness) run(t *testing.T, spec runSpec) *failure {
	d := &run{
		runSpec: spec, ctx: t.Context(), dir: t.TempDir(), counts: &f.counts,
		versions: map[tables.Version]state{}, snapshots: map[string]state{},
		opts: &tables.Options{FoldBytes: 4000, FoldAge: -1, Memory: 1 << 24, NoTail: spec.seed%4 == 3, Engine: f.engine},
	}
	f.Schemas++
	err := d.open()
	defer func() {
		if d.store != nil {
			_ = d.store.Close() // the outcome is already known
		}
		_ = os.RemoveAll(d.dir)
	}()
	for n, number := range spec.Steps {
		if err == nil {
			err = d.makeStep(number)
		}
		if err != nil {
			return &failure{err, d.log, n + 1}
		}
	}
	if _, err = d.store.Fold(d.ctx, nil); err == nil { // some seeds do not fold after every step
		err = d.checkFiles()
	}
	if err == nil {
		err = f.checkPeers(t, d)
	}
	if err != nil {
		return &failure{err, d.log, len(spec.Steps)}
	}
	return nil
}

func (d *run) makeStep(number int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	d.stepNumber = number
	r := rand.New(rand.NewPCG(d.seed, uint64(number)))
	var all []step
	for _, s := range steps {
		all = append(all, slices.Repeat([]step{s}, s.weight)...)
	}
	next := pick(r, all...)
	if !d.exists {
		next = steps[0]
	}
	description, err := next.do(d, r)
	d.log = append(d.log, fmt.Sprintf("%d. %s %s", number, next.name, description))
	d.counts.Steps++
	if err != nil {
		return fmt.Errorf("%s: %w", next.name, err)
	}
	if err := d.check(rand.New(rand.NewPCG(d.seed, uint64(number)+1<<32))); err != nil || d.seed%3 == 0 {
		return err
	}
	if _, err := d.store.Fold(d.ctx, nil); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	d.inTail = false
	return d.checkAllRows()
}

// errorKind returns the part of an error that does not depend on the rows.
func errorKind(err error) string {
	return regexp.MustCompile(`\d+|"[^"]*"|(?s)\n.*`).ReplaceAllString(err.Error(), "")
}

// shrink removes steps, columns and rows that the failure does not depend on, within a time limit.
func (f *harness) shrink(t *testing.T, spec runSpec, current *failure) (runSpec, *failure) {
	end := time.Now().Add(20 * time.Second)
	spec.Steps = spec.Steps[:current.stepCount]
	attempt := func(candidate runSpec) bool {
		if time.Now().After(end) {
			return false
		}
		failed := f.run(t, candidate)
		if failed == nil || errorKind(failed.err)[:min(20, len(errorKind(failed.err)))] != errorKind(current.err)[:min(20, len(errorKind(current.err)))] {
			return false
		}
		candidate.Steps = candidate.Steps[:failed.stepCount]
		spec, current = candidate, failed
		return true
	}
	for _, n := range []int{1, 2, 3, 5, 10, 40} {
		candidate := spec
		if candidate.MaxRows = n; attempt(candidate) {
			break
		}
	}
	for i := len(spec.Steps) - 2; i >= 0; i-- {
		if i < len(spec.Steps)-1 {
			candidate := spec
			candidate.Steps = slices.Delete(slices.Clone(spec.Steps), i, i+1)
			attempt(candidate)
		}
	}
	for i := range 7 {
		candidate := spec
		candidate.Without = append(slices.Clone(spec.Without), i)
		attempt(candidate)
	}
	return spec, current
}

// harness is the state that all runs share.
type harness struct {
	counts
	engine tables.Engine
	peers  map[string]*peer
}

// TestDifferential makes random runs for PARTD_DIFF_SECONDS, starting with seed PARTD_DIFF_SEED, or a random one.
func TestDifferential(t *testing.T) {
	engine := must.Get(duck.New(&duck.Options{Threads: 2}))(t)
	f := &harness{engine: engine, peers: map[string]*peer{}, counts: counts{Foreign: map[string]int{}}}
	t.Cleanup(func() {
		t.Logf("%+v", f.counts)
		must.Do(t, errors.Join(engine.Close(), f.closePeers()))
	})
	if text := os.Getenv(repeatEnv); text != "" {
		var spec runSpec
		err := json.Unmarshal([]byte(text), &spec)
		if err == nil {
			spec.seed, err = strconv.ParseUint(spec.Seed, 10, 64)
		}
		if err != nil {
			t.Fatalf("parse %s: %v", repeatEnv, err)
		}
		if result := f.run(t, spec); result != nil {
			t.Fatalf("%v\nafter\n%s", result.err, strings.Join(result.log, "\n"))
		}
		return
	}
	seconds, first, maxFailures := intFromEnv(t, "PARTD_DIFF_SECONDS", 6), intFromEnv(t, "PARTD_DIFF_SEED", rand.IntN(1_000_000)), intFromEnv(t, "PARTD_DIFF_FAILURES", 3)
	end, failed := time.Now().Add(time.Duration(seconds)*time.Second), 0
	for seed := uint64(first); failed < maxFailures && (seed == uint64(first) || time.Now().Before(end)); seed++ {
		spec := runSpec{seed: seed, Seed: fmt.Sprint(seed), MaxRows: math.MaxInt32}
		for i := range 10 + int(seed%11) {
			spec.Steps = append(spec.Steps, i)
		}
		if result := f.run(t, spec); result != nil {
			failed++
			shrunk, result := f.shrink(t, spec, result)
			specJSON, err := json.Marshal(shrunk)
			t.Errorf("seed %d: %v\nafter\n%s\nto repeat: %s='%s' go test -run TestDifferential ./internal/testutil/difftest %v", seed, result.err, strings.Join(result.log, "\n"), repeatEnv, specJSON, err)
		}
	}
}

func intFromEnv(t *testing.T, env string, n int) int {
	if text := os.Getenv(env); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("parse %s: %v", env, err)
		}
	}
	return n
}

// TestAllTypes checks that the generated types include every type that docs/types.md names.
func TestAllTypes(t *testing.T) {
	base := regexp.MustCompile(`^\w+(\[n?[mu]?s|<arrow\.\w+)?`)
	generated := map[string]bool{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		generated[base.FindString(randomType(r, 2).String())] = true
	}
	page := must.Get(os.ReadFile("../../../docs/types.md"))(t)
	list, _, _ := strings.Cut(string(page), "\n## ")
	types := regexp.MustCompile("(?m)`([^`]+)`|^\\| (\\w.*) \\| ").FindAllStringSubmatch(list, -1)
	for _, m := range types {
		if name := base.FindString(m[1] + m[2]); !generated[name] && name != "put" {
			t.Errorf("randomType never generates type %s", name)
		}
	}
	if len(types) < 40 {
		t.Errorf("docs/types.md has %d types, want at least 40", len(types))
	}
}

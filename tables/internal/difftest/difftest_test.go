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

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// try defines a run. Everything in it follows from the seed, apart from the parts left out.
type try struct {
	seed    uint64
	Seed    string `json:"seed"`
	Steps   []int  `json:"steps"`   // the steps' numbers, in order
	Without []int  `json:"without"` // the numbers of omitted columns
	MaxRows int    `json:"max_rows"`
}

// counts counts what the runs did.
type counts struct {
	Schemas, Steps, Comparisons int
	Foreign                     map[string]int // the number of tables that each peer read
}

// again is the environment variable that contains a try to repeat.
const again = "PARTD_DIFF_AGAIN"

// failure is an error and the steps that led to it.
type failure struct {
	err   error
	log   []string
	steps int // the number of steps made
}

// run runs a try in a new store.
func (f *fence) run(t *testing.T, what try) *failure {
	d := &run{
		try: what, ctx: t.Context(), dir: t.TempDir(), counts: &f.counts,
		versions: map[tables.Version]state{}, snapshots: map[string]state{},
		opts: &tables.Options{FoldBytes: 4000, FoldAge: -1, Memory: 1 << 24, NoTail: what.seed%4 == 3, Engine: f.engine},
	}
	f.Schemas++
	err := d.open()
	defer func() {
		if d.store != nil {
			_ = d.store.Close() // the outcome is already known
		}
		_ = os.RemoveAll(d.dir)
	}()
	for n, at := range what.Steps {
		if err == nil {
			err = d.one(at)
		}
		if err != nil {
			return &failure{err, d.log, n + 1}
		}
	}
	if _, err = d.store.Fold(d.ctx, nil); err == nil { // some seeds do not fold after every step
		err = d.verify()
	}
	if err == nil {
		err = f.foreign(t, d)
	}
	if err != nil {
		return &failure{err, d.log, len(what.Steps)}
	}
	return nil
}

// one makes a step and checks its outcome.
func (d *run) one(at int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	d.at = at
	r := rand.New(rand.NewPCG(d.seed, uint64(at)))
	var all []step
	for _, s := range steps {
		all = append(all, slices.Repeat([]step{s}, s.weight)...)
	}
	chosen := pick(r, all...)
	if !d.exists {
		chosen = steps[0]
	}
	what, err := chosen.do(d, r)
	d.log = append(d.log, fmt.Sprintf("%d. %s %s", at, chosen.name, what))
	d.counts.Steps++
	if err != nil {
		return fmt.Errorf("%s: %w", chosen.name, err)
	}
	if err := d.check(rand.New(rand.NewPCG(d.seed, uint64(at)+1<<32))); err != nil || d.seed%3 == 0 {
		return err
	}
	if _, err := d.store.Fold(d.ctx, nil); err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	d.inTail = false
	return d.all()
}

// kind returns the part of an error that does not depend on the rows.
func kind(err error) string {
	return regexp.MustCompile(`\d+|"[^"]*"|(?s)\n.*`).ReplaceAllString(err.Error(), "")
}

// shrink removes steps, columns and rows that a failure does not need, within a time limit.
func (f *fence) shrink(t *testing.T, what try, found *failure) (try, *failure) {
	end := time.Now().Add(20 * time.Second)
	what.Steps = what.Steps[:found.steps]
	attempt := func(with try) bool {
		if time.Now().After(end) {
			return false
		}
		failed := f.run(t, with)
		if failed == nil || kind(failed.err)[:min(20, len(kind(failed.err)))] != kind(found.err)[:min(20, len(kind(found.err)))] {
			return false
		}
		with.Steps = with.Steps[:failed.steps]
		what, found = with, failed
		return true
	}
	for _, n := range []int{1, 2, 3, 5, 10, 40} {
		with := what
		if with.MaxRows = n; attempt(with) {
			break
		}
	}
	for i := len(what.Steps) - 2; i >= 0; i-- {
		if i < len(what.Steps)-1 {
			with := what
			with.Steps = slices.Delete(slices.Clone(what.Steps), i, i+1)
			attempt(with)
		}
	}
	for i := range 7 {
		with := what
		with.Without = append(slices.Clone(what.Without), i)
		attempt(with)
	}
	return what, found
}

// fence is the state that all runs share.
type fence struct {
	counts
	engine tables.Engine
	peers  map[string]*peer
}

// TestDifferential runs tries for PARTD_DIFF_SECONDS, starting at seed PARTD_DIFF_SEED.
func TestDifferential(t *testing.T) {
	engine, err := duck.New(&duck.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	f := &fence{engine: engine, peers: map[string]*peer{}, counts: counts{Foreign: map[string]int{}}}
	t.Cleanup(func() {
		t.Logf("%+v", f.counts)
		if err := errors.Join(engine.Close(), f.closePeers()); err != nil {
			t.Error(err)
		}
	})
	if text := os.Getenv(again); text != "" {
		var what try
		err := json.Unmarshal([]byte(text), &what)
		if err == nil {
			what.seed, err = strconv.ParseUint(what.Seed, 10, 64)
		}
		if err != nil {
			t.Fatal(again, err)
		}
		if found := f.run(t, what); found != nil {
			t.Fatalf("%v\nafter\n%s", found.err, strings.Join(found.log, "\n"))
		}
		return
	}
	seconds, first, most := number(t, "PARTD_DIFF_SECONDS", 10), number(t, "PARTD_DIFF_SEED", 1), number(t, "PARTD_DIFF_FAILURES", 3)
	end, failed := time.Now().Add(time.Duration(seconds)*time.Second), 0
	for seed := uint64(first); failed < most && (seed == uint64(first) || time.Now().Before(end)); seed++ {
		what := try{seed: seed, Seed: fmt.Sprint(seed), MaxRows: math.MaxInt32}
		for i := range 10 + int(seed%11) {
			what.Steps = append(what.Steps, i)
		}
		if found := f.run(t, what); found != nil {
			failed++
			small, found := f.shrink(t, what, found)
			how, err := json.Marshal(small)
			t.Errorf("seed %d: %v\nafter\n%s\nagain: %s='%s' go test -run TestDifferential ./internal/difftest %v", seed, found.err, strings.Join(found.log, "\n"), again, how, err)
		}
	}
}

func number(t *testing.T, env string, n int) int {
	if text := os.Getenv(env); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(env, err)
		}
	}
	return n
}

// TestAllTypes checks that the generated types include every type that docs/types.md names.
func TestAllTypes(t *testing.T) {
	base := regexp.MustCompile(`^\w+(\[n?[mu]?s|<arrow\.\w+)?`)
	made := map[string]bool{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		made[base.FindString(randomType(r, 2).String())] = true
	}
	page, err := os.ReadFile("../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, " | "); len(cells) == 3 && !strings.Contains(line, "comes back as") {
			rows++
			if name := base.FindString(strings.TrimPrefix(cells[0], "| ")); !made[name] {
				t.Errorf("no column of type %s is made", name)
			}
		}
	}
	if rows < 40 {
		t.Errorf("the page has %d types", rows)
	}
}

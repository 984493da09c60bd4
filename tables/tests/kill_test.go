package tables_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

// killChild runs operations on a directory, its argument, until it is killed. It reads each operation from standard
// input, and prints a line after it.
func killChild(args []string) error {
	ctx := context.Background()
	s, err := tables.Open(ctx, args[0], &tables.Options{FoldBytes: 2000, FoldAge: 5 * time.Millisecond, Sync: rand.IntN(2) == 0})
	if err != nil {
		return err
	}
	b := s.Bucket("")
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	for {
		var op, name string
		var first, count int64
		if _, err := fmt.Fscanln(in, &op, &name, &first, &count); err != nil {
			return err
		}
		switch op {
		case "append", "replace":
			mode := tables.PutAppend
			if op == "replace" {
				mode = tables.PutReplace
			}
			_, err = b.Table(name).Put(ctx, tabletest.Rows(tabletest.Sequence(first, count)...), mode, nil)
		case "fold":
			_, err = s.Fold(ctx, nil)
		case "compact":
			_, err = s.Compact(ctx, nil)
		case "maintain":
			_, err = s.Maintain(ctx, &tables.MaintainOptions{Keep: 2, Grace: -1})
		case "expire":
			_, err = s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
}

func TestMain(m *testing.M) {
	procs.Roles{"operations": killChild, "synced writes": syncKillChild, "appends": appendChild, "remote writers": writerChild}.Main(m)
}

// rowsByTable is the expected content of a store.
type rowsByTable map[string][]int64

func (a rowsByTable) equal(b rowsByTable) bool {
	return maps.EqualFunc(a, b, func(a, b []int64) bool { return slices.Equal(a, b) })
}

// TestKill checks that each process killed with kill -9 leaves all acknowledged rows; PARTD_KILLS sets how many are
// killed.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 1))
	acknowledged := rowsByTable{}
	next := int64(0)
	for round := range procs.Kills(t, 3) {
		inFlight := killRound(t, dir, rnd, acknowledged, &next)
		s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
		got := rowsByTable{}
		for _, name := range []string{"a", "b"} {
			rows, ok, err := tabletest.Read(t.Context(), s.Bucket(""), name)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if ok {
				got[name] = rows
			}
		}
		if !got.equal(acknowledged) && !got.equal(inFlight) {
			t.Fatalf("round %d: the tables are %v, want %v or %v", round, got, acknowledged, inFlight)
		}
		acknowledged = got
		must.Do(t, s.Close())
	}
}

// killRound starts a process, lets it work for a while and kills it. It updates acknowledged after each acknowledged
// operation. The kill interrupts an operation; if that operation took effect nevertheless, the tables contain inFlight.
func killRound(t *testing.T, dir string, rnd *rand.Rand, acknowledged rowsByTable, next *int64) (inFlight rowsByTable) {
	p := procs.Start(t, procs.Command("operations", dir))
	p.WaitFor(t, "ready")
	p.KillAfter(time.Duration(rnd.IntN(200)) * time.Millisecond)
	for {
		name := []string{"a", "b"}[rnd.IntN(2)]
		op := []string{"append", "append", "append", "append", "append", "replace", "fold", "compact", "expire", "maintain"}[rnd.IntN(10)]
		count := int64(1 + rnd.IntN(3))
		if rnd.IntN(6) == 0 {
			count = 150 // too many rows for the tail: written directly to a file
		}
		inFlight = maps.Clone(acknowledged)
		switch op {
		case "append":
			inFlight[name] = append(slices.Clone(acknowledged[name]), tabletest.Sequence(*next, count)...)
		case "replace":
			inFlight[name] = tabletest.Sequence(*next, count)
		}
		first := *next
		*next += count
		if _, ok := p.Ask(fmt.Sprintf("%s %s %d %d", op, name, first, count)); !ok {
			break
		}
		maps.Copy(acknowledged, inFlight)
	}
	p.WaitKilled(t)
	return inFlight
}

// writerConfig is the configuration of a child process with two writers.
type writerConfig struct {
	URL     string
	Options struct{ Catalog, CacheDir, TailDir string }
	First   int      // the number of the first writer
	Next    [2]int64 // the writers' next rows
}

const rowsPerWriter = 1_000_000

// writerChild appends rows until standard input ends. It retries each row until the row is acknowledged,
// and then prints it.
func writerChild(args []string) error {
	var w writerConfig
	if err := json.Unmarshal([]byte(args[0]), &w); err != nil {
		return err
	}
	ctx := context.Background()
	o := &tables.Options{Catalog: w.Options.Catalog, CacheDir: w.Options.CacheDir, TailDir: w.Options.TailDir, OpenBucket: cloud.OpenBucket, FoldAge: 400 * time.Millisecond, Sync: true}
	end := time.Now().Add(3 * time.Minute)
	shouldRetry := func(err error) bool {
		time.Sleep(60 * time.Millisecond) // the processors are not busy all the time
		return err != nil && time.Now().Before(end)
	}
	s, err := tables.Open(ctx, w.URL, o)
	for shouldRetry(err) {
		s, err = tables.Open(ctx, w.URL, o)
	}
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	errs := make(chan error, 2)
	for i := range 2 {
		go func() {
			for n := w.Next[i]; ; n++ {
				row := int64(w.First+i)*rowsPerWriter + n
				put := func() error {
					return must.Err(s.Bucket("").Table(fmt.Sprint("t", i)).Put(ctx, tabletest.Rows(row), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(row)}))
				}
				err := put()
				for shouldRetry(err) {
					err = put()
				}
				if err != nil {
					errs <- err
					return
				}
				fmt.Println(w.First+i, n)
				select {
				case <-stop:
					errs <- nil
					return
				default:
				}
			}
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		return err
	}
	_, err = s.Fold(ctx, nil)
	for shouldRetry(err) {
		_, err = s.Fold(ctx, nil)
	}
	return errors.Join(err, s.Close())
}

// writerProcess is a child process that the test kills and restarts.
type writerProcess struct {
	*procs.Process
	w             writerConfig
	outputReaders sync.WaitGroup
	mu            sync.Mutex // guards w.Next
}

func (p *writerProcess) start(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	text, err := json.Marshal(p.w)
	p.mu.Unlock()
	must.Do(t, err)
	p.Process = procs.Start(t, procs.Command("remote writers", string(text)))
	p.outputReaders.Go(func() {
		for line := range p.Lines() {
			var w int
			var n int64
			if _, err := fmt.Sscan(line, &w, &n); err == nil {
				p.mu.Lock()
				p.w.Next[w-p.w.First] = n + 1
				p.mu.Unlock()
			}
		}
	})
}

func (p *writerProcess) next() [2]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Next
}

// TestKillRemote appends to two tables in a bucket with eight writers in four processes; two of
// the processes first store rows in a tail on their disk. At the same time it kills processes, the gateway or the
// database, PARTD_KILLS times in all. Each acknowledged row must occur once.
func TestKillRemote(t *testing.T) {
	w := tabletest.StartWarehouse(t)
	var processes []*writerProcess
	for i := range 4 {
		p := &writerProcess{w: writerConfig{URL: w.URL, First: 2 * i}}
		p.w.Options.Catalog, p.w.Options.CacheDir = w.Options.Catalog, w.Options.CacheDir
		if i < 2 {
			p.w.Options.TailDir = t.TempDir() + "/tail"
		}
		processes = append(processes, p)
		p.start(t)
	}
	waitForProgress := func() {
		t.Helper()
		before := make([][2]int64, len(processes))
		for i, p := range processes {
			before[i] = p.next()
		}
		for end := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			progressed := 0
			for i, p := range processes {
				if n := p.next(); n[0] > before[i][0] && n[1] > before[i][1] {
					progressed++
				}
			}
			if progressed == len(processes) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("only %d of %d processes made progress within 3 minutes; the first one's errors: %v", progressed, len(processes), processes[0].Stderr())
			}
		}
	}
	waitForProgress()
	s := must.Get(tables.Open(t.Context(), w.URL, &w.Options))(t)
	defer s.Close() //nolint:errcheck // the test is over
	rnd := rand.New(rand.NewPCG(1, 2))
	snapshots := 0
	for round := range procs.Kills(t, 4) {
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		switch k := round % 4; k {
		case 1:
			w.Gateway.Kill()
			w.Gateway.Restart(t)
		case 3:
			w.Postgres.Kill()
			w.Postgres.Restart(t)
		default:
			p := processes[rnd.IntN(len(processes))]
			p.KillAfter(0)
			p.outputReaders.Wait()
			p.Kill()
			p.start(t)
		}
		waitForProgress()
		if _, err := s.Bucket("").Snapshot(t.Context(), fmt.Sprint("after ", round)); err == nil {
			snapshots++
		}
	}
	want := map[string][]int64{}
	for _, p := range processes {
		must.Do(t, p.In.Close())
		p.outputReaders.Wait()
		if err := p.Wait(); err != nil {
			t.Fatalf("writer process failed: %v", err)
		}
		for i, n := range p.next() {
			name := fmt.Sprint("t", i)
			want[name] = append(want[name], tabletest.Sequence(int64(p.w.First+i)*rowsPerWriter, n)...)
		}
	}
	if snapshots == 0 {
		t.Error("all snapshots failed")
	}
	checkAll(t, w, s, want)
}

// checkAll compares tables with the expected rows, and reads versions and snapshots with an initially empty cache: all,
// or by default some of the versions.
func checkAll(t *testing.T, w *tabletest.Warehouse, s *tables.Store, want map[string][]int64) {
	t.Helper()
	o := w.Options
	o.CacheDir = t.TempDir()
	uncached := tabletest.Open(t, w.URL, &o)
	for name, rows := range want {
		slices.Sort(rows)
		for label, s := range map[string]*tables.Store{"open store": s, "new store": uncached} {
			got, _, err := tabletest.Read(t.Context(), s.Bucket(""), name)
			if err != nil || !slices.Equal(got, rows) {
				lost := slices.DeleteFunc(slices.Clone(rows), func(row int64) bool { return slices.Contains(got, row) })
				t.Errorf("table %s of the %s has %d rows, want %d; error: %v; lost rows: %v", name, label, len(got), len(rows), err, lost)
			}
		}
		table := uncached.Bucket("").Table(name)
		versions := must.Get(table.Versions(t.Context()))(t)
		rand.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
		if os.Getenv("PARTD_KILLS") == "" {
			versions = versions[:min(len(versions), 12)]
		}
		for _, v := range versions {
			old := must.Get(uncached.Bucket("").Table(name).At(t.Context(), tables.AtVersion(v.Version)))(t)
			if got, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || int64(len(got)) != v.Rows {
				t.Fatalf("version %d has %d rows, want %d; error: %v", v.Version, len(got), v.Rows, err)
			}
		}
		t.Logf("table %s: %d rows, %d versions", name, len(rows), len(versions))
	}
	snapshots := must.Get(uncached.Bucket("").Snapshots(t.Context()))(t)
	for _, snap := range snapshots {
		for name := range want {
			table := must.Get(uncached.Bucket("").Table(name).At(t.Context(), tables.AtSnapshot(snap.Name)))(t)
			must.Get(tabletest.ReadAll(t.Context(), table, nil))(t)
		}
	}
}

package stage_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/stage"
)

func storedStages(t testing.TB, r *stage.Results) string {
	t.Helper()
	results := must.Get(r.List(t.Context()))(t)
	var names []string
	for _, i := range results {
		names = append(names, i.Stage)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestGC checks that GC removes old results, unless a younger result or a live pipeline needs them.
func TestGC(t *testing.T) { inBackends(t, testGC) }

func testGC(t *testing.T, newOptions func(testing.TB) *stage.Options) {
	recipe, dir := newRecipe(t), t.TempDir()
	r := open(t, dir, newOptions(t))
	now := time.Now()
	stage.SetNow(r, func() time.Time { return now })
	recipe.isCached = func(name string) bool { return name != "double" } // the stage between last and load
	run(t, r, recipe.pipeline())
	now = now.Add(time.Hour)
	recipe.source["last.go"] = &fstest.MapFile{Data: []byte("package p")}
	run(t, r, recipe.pipeline())
	recipe.runs.take()
	// The first result of last is now old. The results of load and text are also old, but the second result of
	// last needs them.
	collect := func(want string, o *stage.GCOptions, remaining string) {
		t.Helper()
		result, err := r.GC(t.Context(), o)
		if got := fmt.Sprint(result.Removed, result.Remaining); err != nil || got != want {
			t.Errorf("GC = %s, %v, want %s (removed and remaining results)", got, err, want)
		}
		if got := storedStages(t, r); got != remaining {
			t.Errorf("the remaining results are %s, want %s", got, remaining)
		}
	}
	collect("0 4", nil, "last last load text")
	collect("0 4", &stage.GCOptions{TTL: 2 * time.Hour}, "last last load text")
	collect("1 3", &stage.GCOptions{TTL: time.Hour}, "last load text")
	now = now.Add(2 * time.Hour)
	collect("0 3", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "last load text")
	if got := run(t, r, recipe.pipeline()); got != wantResult || recipe.runs.take() != "" {
		t.Errorf("after GC, the pipeline returned %s, want the stored result %s without running a stage", got, wantResult)
	}
	recipe.factor = 7 // GC must remove the old result of last, and keep the ancestors that the new result needs
	collect("1 2", &stage.GCOptions{TTL: time.Hour, Live: []stage.Any{recipe.pipeline()}}, "load text")
	collect("2 0", &stage.GCOptions{TTL: time.Hour}, "")
	for _, name := range []string{"tmp", "files", "locks"} {
		if leftovers, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(leftovers) > 0 {
			t.Errorf("after GC, directory %s contains %v, %v, want nothing", name, leftovers, err)
		}
	}
	run(t, r, recipe.pipeline())
}

// TestGCKeepsUsedResults checks that GC keeps results that are being computed, and the files that a run uses.
func TestGCKeepsUsedResults(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, second := open(t, dir, nil), open(t, dir, nil)
	later := time.Now().Add(time.Hour)
	stage.SetNow(second, func() time.Time { return later })
	recipe.onRun = func(name string) error {
		if name == "last" {
			_, err := second.GC(context.Background(), &stage.GCOptions{TTL: time.Minute})
			return err
		}
		return nil
	}
	if got := run(t, r, recipe.pipeline()); got != wantResult {
		t.Errorf("with a concurrent GC, the pipeline returned %s, want %s", got, wantResult)
	}
	if got := storedStages(t, r); got != "last text" {
		t.Errorf("the stored results are %s, want last text", got)
	}
}

// TestExpiredFilesInUse checks that expired files can be computed again while a run still uses the old files.
func TestExpiredFilesInUse(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, second := open(t, dir, nil), open(t, dir, nil)
	pipeline := recipe.pipeline()
	stage.Expire(pipeline, "text", time.Hour)
	stage.SetNow(second, func() time.Time { return time.Now().Add(2 * time.Hour) })
	recipe.onRun = func(name string) error {
		if name != "last" {
			return nil
		}
		recipe.onRun = nil
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		changed := newRecipe(t)
		changed.raw = recipe.raw
		changed.source["last.go"].Data = []byte("package other")
		laterPipeline := changed.pipeline()
		stage.Expire(laterPipeline, "text", time.Hour)
		_, err := laterPipeline.Run(ctx, second)
		if err == nil {
			_, err = second.GC(ctx, nil)
		}
		return err
	}
	if got := run(t, r, pipeline); got != wantResult {
		t.Errorf("the pipeline returned %s, want %s", got, wantResult)
	}
	must.Get(second.GC(t.Context(), nil))(t)
}

// TestGCDamagedInfo checks that GC removes the folders of results whose info is damaged, because these results are
// computed again.
func TestGCDamagedInfo(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r := open(t, dir, nil)
	run(t, r, recipe.pipeline())
	infos := tabletest.Paths(t, filepath.Join(dir, "results"), "info")
	if len(infos) == 0 {
		t.Fatal("the results have no infos")
	}
	for _, path := range infos {
		must.Do(t, os.WriteFile(path, []byte("garbage"), 0o600))
	}
	must.Get(r.GC(t.Context(), nil))(t)
	if folders, err := os.ReadDir(filepath.Join(dir, "files")); err != nil || len(folders) > 0 {
		t.Errorf("after GC, the directory files contains %v, %v, want nothing", folders, err)
	}
	if got := run(t, r, recipe.pipeline()); got != wantResult {
		t.Errorf("after GC, the pipeline returned %s, want %s", got, wantResult)
	}
}

// gcBeforeSet is a store in which other Results collect garbage before each info is set, when its data is already
// stored.
type gcBeforeSet struct {
	*partd.File
	gc func()
}

func (s gcBeforeSet) Set(ctx context.Context, key string, value []byte) error {
	s.gc()
	return s.File.Set(ctx, key, value)
}

// TestGCDuringPut checks that GC keeps the data of a result that another process is storing.
func TestGCDuringPut(t *testing.T) {
	recipe, dir := newRecipe(t), t.TempDir()
	r, second := open(t, dir, nil), open(t, dir, nil)
	var collected atomic.Int64 // several results can be stored at the same time
	stage.WrapStore(r, func(s partd.Partd) partd.Partd {
		return gcBeforeSet{s.(*partd.File), func() {
			collected.Add(1)
			if _, err := second.GC(t.Context(), nil); err != nil {
				t.Errorf("GC failed: %v", err)
			}
		}}
	})
	run(t, r, recipe.pipeline())
	if recipe.runs.take(); collected.Load() == 0 {
		t.Error("no result was stored in the directory's store")
	}
	if got := run(t, second, recipe.pipeline()); got != wantResult {
		t.Errorf("the pipeline returned %s, want %s", got, wantResult)
	}
	if computed := recipe.runs.take(); computed != "" {
		t.Errorf("the second run computed %s, want only stored results", computed)
	}
}

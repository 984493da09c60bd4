package stage_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/stage"
)

// chain returns a pipeline of ten stages, each of which adds one to the numbers of the one before. They have the given
// code, the first one its own.
func chain(runs *runCounter, firstCode string, first ...int64) *stage.Stage[arrow.Table] {
	var last *stage.Stage[arrow.Table]
	for n := range 10 {
		name, before, spec := fmt.Sprint("s", n), last, stage.Spec[arrow.Table]{Version: "1", Cache: true}
		if spec.Version = firstCode; before != nil {
			spec.Version, spec.From = "1", []stage.Any{before}
		}
		last = stage.Define(name, func(_ context.Context, in *stage.Inputs) (arrow.Table, error) {
			runs.add(name)
			if before == nil {
				return tableWith(first...), nil
			}
			t, err := before.Of(in)
			if err != nil {
				return nil, err
			}
			values := valuesOf(t)
			for i := range values {
				values[i]++
			}
			return tableWith(values...), nil
		}, spec)
	}
	return last
}

// TestCutoff checks that after a change of the first of ten stages, only this stage runs if its result stays the same,
// also after GC and with another directory on the same store, and that all stages run if it differs.
func TestCutoff(t *testing.T) {
	inBackends(t, func(t *testing.T, newOptions func(testing.TB) *stage.Options) {
		var runs runCounter
		o, dir := newOptions(t), t.TempDir()
		now := time.Now()
		check := func(code string, value int64, want int) {
			t.Helper()
			if o != nil {
				dir = t.TempDir()
			}
			r := open(t, dir, o)
			stage.SetNow(r, func() time.Time { return now })
			last := chain(&runs, code, value)
			rows, err := last.Run(t.Context(), r)
			if err != nil || valuesOf(rows)[0] != value+9 {
				t.Fatalf("with code %s, Run = %v, %v, want %d", code, rows, err, value+9)
			}
			if ran := runs.take(); strings.Count(ran, " 1") != want || want == 1 && ran != "s0 1" {
				t.Errorf("with code %s, the stages %q ran, want %d", code, ran, want)
			}
			now = now.Add(time.Hour)
			must.Get(r.GC(t.Context(), &stage.GCOptions{TTL: time.Minute, Live: []stage.Any{last}}))(t)
			steps, err := chain(&runs, code+" renamed", value).Plan(t.Context(), r)
			if err != nil || steps[0].Why != "code changed" || steps[9].Action != stage.MayRun || steps[9].Why != "if the result of s8 differs" {
				t.Errorf("after a change, the plan is %v, %v, want s0 to run, and s9 if the result of s8 differs", steps, err)
			}
			must.Get(r.GC(t.Context(), &stage.GCOptions{TTL: time.Minute, Live: []stage.Any{chain(&runs, code+" renamed", value)}}))(t)
		}
		check("1", 5, 10)
		check("2", 5, 1)
		check("3", 5, 1)
		check("4", 6, 10)
	})
}

// changing returns the pipeline one → left, right → last. Each run of one returns another number, and last returns the
// numbers that it gets from left and right.
func changing(runs *runCounter, version string) *stage.Stage[arrow.Table] {
	n := int64(0)
	one := stage.Define("one", func(context.Context, *stage.Inputs) (arrow.Table, error) {
		runs.add("one")
		n++
		return tableWith(n), nil
	}, stage.Spec[arrow.Table]{Version: "1", Cache: true})
	pass := func(name string) *stage.Stage[arrow.Table] {
		return stage.Define(name, func(_ context.Context, in *stage.Inputs) (arrow.Table, error) {
			runs.add(name)
			return one.Of(in)
		}, stage.Spec[arrow.Table]{From: []stage.Any{one}, Version: version, Cache: true})
	}
	left, right := pass("left"), pass("right")
	return stage.Define("last", func(_ context.Context, in *stage.Inputs) (arrow.Table, error) {
		runs.add("last")
		l, err1 := left.Of(in)
		r, err2 := right.Of(in)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return tableWith(append(valuesOf(l), valuesOf(r)...)...), nil
	}, stage.Spec[arrow.Table]{From: []stage.Any{left, right}, Version: "1", Cache: true})
}

// TestResultDiffers checks that if a stored result is damaged during a run, and differs when it is computed again, the
// run uses only results that depend on the new one.
func TestResultDiffers(t *testing.T) {
	var runs runCounter
	dir := t.TempDir()
	r := open(t, dir, nil)
	last := changing(&runs, "1")
	if rows, err := last.Run(t.Context(), r); err != nil || fmt.Sprint(valuesOf(rows)) != "[1 1]" {
		t.Fatal(rows, err)
	}
	results := must.Get(r.List(t.Context()))(t)
	for _, i := range results {
		if i.Stage == "right" { // it has to run again, and needs the result of one
			must.Do(t, os.RemoveAll(infoPath(t, dir, i.Key, "info")))
		}
		if i.Stage == "one" {
			path := infoPath(t, dir, i.Key, "data")
			must.Do(t, os.WriteFile(path, []byte("garbage"), 0o600))
		}
	}
	runs.take()
	rows, err := last.Run(t.Context(), r)
	if err != nil || fmt.Sprint(valuesOf(rows)) != "[2 2]" {
		t.Errorf("Run = %v, %v, want both numbers from the second run of one", rows, err)
	}
	if got := runs.take(); got != "last 1, left 1, one 1, right 1" {
		t.Errorf("the stages %s ran, want each once", got)
	}
	if rows, err := last.Run(t.Context(), r); err != nil || fmt.Sprint(valuesOf(rows)) != "[2 2]" || runs.take() != "" {
		t.Errorf("Run = %v, %v, want the stored result", rows, err)
	}
}

// infoPath returns the file of a result's info or data.
func infoPath(t *testing.T, dir, key, part string) string {
	t.Helper()
	for _, path := range tabletest.Paths(t, filepath.Join(dir, "results"), part) {
		if strings.Contains(path, key) {
			return path
		}
	}
	t.Fatal("the result has no ", part)
	return ""
}

// TestConcurrentRuns checks that runs that compute the same results at the same time return consistent results,
// although each run of the first stage returns another number.
func TestConcurrentRuns(t *testing.T) {
	inBackends(t, func(t *testing.T, newOptions func(testing.TB) *stage.Options) {
		o := newOptions(t)
		dir := t.TempDir()
		var g sync.WaitGroup
		for n := range 4 {
			g.Go(func() {
				for round := range 5 {
					var runs runCounter
					r := open(t, dir, o)
					rows, err := changing(&runs, fmt.Sprint(n, round)).Run(t.Context(), r)
					if err != nil || len(valuesOf(rows)) != 2 || valuesOf(rows)[0] != valuesOf(rows)[1] {
						t.Errorf("Run = %v, %v, want the same number twice", rows, err)
					}
					if _, err := r.GC(t.Context(), &stage.GCOptions{TTL: time.Nanosecond}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		g.Wait()
	})
}

// TestCutoffKinds checks that the hash of a folder depends on names, permissions and contents, and that of a value on
// its type and codec.
func TestCutoffKinds(t *testing.T) {
	r := open(t, t.TempDir(), nil)
	version, ran := 0, 0
	folder := func(files fstest.MapFS) *stage.Stage[int] {
		version++
		first := stage.Define("files", func(_ context.Context, in *stage.Inputs) (stage.Folder, error) {
			for name, f := range files {
				if err := os.WriteFile(filepath.Join(string(in.Dir()), name), f.Data, f.Mode); err != nil {
					return "", err
				}
			}
			return in.Dir(), nil
		}, stage.Spec[stage.Folder]{Version: fmt.Sprint(version), Cache: true})
		return stage.Define("last", func(context.Context, *stage.Inputs) (int, error) { ran++; return 0, nil },
			stage.Spec[int]{From: []stage.Any{first}, Version: "1", Cache: true, Codec: encode.JSON[int](), CodecName: "json"})
	}
	value := func(codec string, v any) *stage.Stage[int] {
		version++
		first := stage.Define("value", func(context.Context, *stage.Inputs) (any, error) { return v, nil },
			stage.Spec[any]{Version: fmt.Sprint(version), Cache: true, Codec: encode.JSON[any](), CodecName: codec})
		return stage.Define("last", func(context.Context, *stage.Inputs) (int, error) { ran++; return 0, nil },
			stage.Spec[int]{From: []stage.Any{first}, Version: "1", Cache: true, Codec: encode.JSON[int](), CodecName: "json"})
	}
	for _, c := range []struct {
		name string
		s    *stage.Stage[int]
		want int
	}{
		{"first files", folder(fstest.MapFS{"a": {Data: []byte("1"), Mode: 0o600}}), 1},
		{"same files", folder(fstest.MapFS{"a": {Data: []byte("1"), Mode: 0o600}}), 0},
		{"other content", folder(fstest.MapFS{"a": {Data: []byte("2"), Mode: 0o600}}), 1},
		{"other name", folder(fstest.MapFS{"b": {Data: []byte("2"), Mode: 0o600}}), 1},
		{"other permissions", folder(fstest.MapFS{"b": {Data: []byte("2"), Mode: 0o700}}), 1},
		{"another file", folder(fstest.MapFS{"b": {Data: []byte("2"), Mode: 0o700}, "c": {Mode: 0o600}}), 1},
		{"first value", value("json", 1), 1},
		{"same value", value("json", 1), 0},
		{"another value", value("json", 2), 1},
		{"another codec", value("json 2", 2), 1},
	} {
		ran = 0
		if _, err := c.s.Run(t.Context(), r); err != nil || ran != c.want {
			t.Errorf("%s: the last stage ran %d times, error %v, want %d", c.name, ran, err, c.want)
		}
	}
}

// replacingStore is a store in which another program replaces a result after its info is read for the second time.
type replacingStore struct {
	*partd.File
	info    string // key of the info
	replace func()
	reads   int
}

func (s *replacingStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	values, err := s.File.Get(ctx, keys...)
	if keys[0] == s.info {
		if s.reads++; s.reads == 2 {
			s.replace()
		}
	}
	return values, err
}

// TestReplacedDuringLoad checks that a stage does not use the data of a new result with the key for the old one.
func TestReplacedDuringLoad(t *testing.T) {
	var runs runCounter
	dir := t.TempDir()
	r, second := open(t, dir, nil), open(t, dir, nil)
	last := changing(&runs, "1")
	must.Get(last.Run(t.Context(), r))(t)
	results := must.Get(r.List(t.Context()))(t)
	stage.WrapStore(r, func(s partd.Partd) partd.Partd {
		store := &replacingStore{File: s.(*partd.File)}
		for _, i := range results {
			path := infoPath(t, dir, i.Key, "info")
			if i.Stage == "one" {
				store.info = "stage/" + i.Key + "/info"
				store.replace = func() {
					must.Check(t, os.Remove(path))
					_, err := last.Run(t.Context(), second)
					must.Check(t, err)
				}
			} else {
				must.Check(t, os.Remove(path))
			}
		}
		return store
	})
	if rows, err := last.Run(t.Context(), r); err != nil || fmt.Sprint(valuesOf(rows)) != "[2 2]" {
		t.Errorf("Run = %v, %v, want the new result", rows, err)
	}
	if results, err := r.List(t.Context()); err != nil || len(results) != 4 {
		t.Errorf("the store has %d results, error %v, want 4: none with the key for the old result", len(results), err)
	}
}

// TestContentIsWrittenOnce loads a result for one stage while the key of another stage is computed from the result's
// content. The race detector fails if loading writes the content again.
func TestContentIsWrittenOnce(t *testing.T) {
	define := func(name string, from ...stage.Any) *stage.Stage[arrow.Table] {
		return stage.Define(name, func(context.Context, *stage.Inputs) (arrow.Table, error) { return tableWith(1), nil },
			stage.Spec[arrow.Table]{Version: "1", Cache: true, From: from})
	}
	shared, slow := define("shared"), define("slow")
	last := define("last", define("loads", shared), define("waits", shared, slow))
	r := must.Get(stage.Open(t.TempDir(), nil))(t)
	defer func() { must.Do(t, r.Close()) }()
	for _, s := range []*stage.Stage[arrow.Table]{shared, slow} {
		must.Get(s.Run(t.Context(), r))(t)
	}
	// While "waits" waits for the content of "slow", "loads" runs, which loads the result of "shared".
	stage.DelayInfo(r, "slow", 400*time.Millisecond)
	must.Get(last.Run(t.Context(), r))(t)
}

package stage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/stage"
)

// TestMissingData checks that a result is computed again if its data is missing, for example after an interrupted
// removal, and that GC removes data that no info refers to.
func TestMissingData(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, nil)
	store := must.Get(partd.OpenFile(filepath.Join(dir, "results"), nil))(t)
	defer store.Close() //nolint:errcheck // tests only
	computed := 0
	s := stage.Define("computed", func(context.Context, *stage.Inputs) (arrow.Table, error) {
		computed++
		return tableWith(1), nil
	}, stage.Spec[arrow.Table]{Version: "1", Cache: true})
	run := func(want int) {
		t.Helper()
		if _, err := s.Run(t.Context(), r); err != nil || computed != want {
			t.Fatalf("computed %d times, want %d: %v", computed, want, err)
		}
	}
	run(1)
	keys := func() (data, infos []string) {
		for k, err := range store.Keys(t.Context()) {
			must.Do(t, err)
			if strings.HasSuffix(k.Key, "/info") {
				infos = append(infos, k.Key)
			} else {
				data = append(data, k.Key)
			}
		}
		return data, infos
	}
	data, infos := keys()
	must.Do(t, store.Delete(t.Context(), data...))
	run(2)
	run(2)
	must.Do(t, store.Delete(t.Context(), infos...))
	run(3)
	run(3)
	unreferenced := len(infos)
	if data, _ := keys(); len(data) != 1+unreferenced {
		t.Errorf("the store has the data %q, want those of one result and unreferenced data", data)
	}
	must.Get(r.GC(t.Context(), nil))(t)
	if data, infos := keys(); len(data) != 1 || len(infos) != 1 {
		t.Errorf("after GC, the store has the keys %q and %q, want one result", infos, data)
	}
	run(3)
}

// TestDamagedResult checks that a result whose stored bytes are damaged is computed again, and reported once.
func TestDamagedResult(t *testing.T) {
	for name, damage := range map[string]func(path string, content []byte) error{
		"truncated": func(path string, content []byte) error { return os.WriteFile(path, content[:len(content)/2], 0o600) },
		"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"garbage": func(path string, _ []byte) error {
			return os.WriteFile(path, bytes.Repeat([]byte("garbage"), 50), 0o600)
		},
		"deleted": func(path string, _ []byte) error { return os.Remove(path) },
		"one bit": func(path string, content []byte) error {
			content[len(content)/2] ^= 1
			return os.WriteFile(path, content, 0o600)
		},
		"last bit of the data": func(path string, content []byte) error {
			if i := bytes.LastIndexByte(content, 77); i >= 0 {
				content[i] ^= 1
			}
			return os.WriteFile(path, content, 0o600)
		},
	} {
		for _, part := range []string{"info", "data"} {
			var log bytes.Buffer
			dir, computed := t.TempDir(), 0
			s := stage.Define("computed", func(context.Context, *stage.Inputs) (arrow.Table, error) {
				computed++
				return tableWith(7, 77, 777), nil
			}, stage.Spec[arrow.Table]{Version: "1", Cache: true})
			run := func() string {
				t.Helper()
				r := must.Get(stage.Open(dir, &stage.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}))(t)
				defer r.Close() //nolint:errcheck // tests only
				got, err := s.Run(t.Context(), r)
				if err != nil {
					return err.Error()
				}
				return fmt.Sprint(valuesOf(got), computed)
			}
			run()
			files := tabletest.Paths(t, filepath.Join(dir, "results"), part)
			if len(files) != 1 {
				t.Fatalf("the result has the files %q of its %s, want one", files, part)
			}
			must.Do(t, damage(files[0], must.Get(os.ReadFile(files[0]))(t)))
			again, then := run(), run()
			if again != "[7 77 777] 2" && again != "[7 77 777] 1" || then != again {
				t.Errorf("%s, %s: the runs return %s and %s, want the values of the stage, computed at most once more", part, name, again, then)
			}
			isMissing := name == "deleted" || name == "empty" && part == "info"
			if n := strings.Count(log.String(), "computing a damaged result again"); n > 1 || n == 0 && !isMissing && !strings.HasPrefix(name, "last") {
				t.Errorf("%s, %s: %d warnings: %s", part, name, n, log.String())
			}
		}
	}
}

// TestNotUTF8 checks that a result whose info is not valid UTF-8 is not mistaken for a damaged one.
func TestNotUTF8(t *testing.T) {
	computed := 0
	s := stage.Define("not \xff UTF-8", func(context.Context, *stage.Inputs) (arrow.Table, error) {
		computed++
		return tableWith(7), nil
	}, stage.Spec[arrow.Table]{Version: "1", Cache: true})
	dir := t.TempDir()
	for range 2 {
		r := must.Get(stage.Open(dir, nil))(t)
		if got, err := s.Run(t.Context(), r); err != nil || fmt.Sprint(valuesOf(got)) != "[7]" || computed > 1 {
			t.Errorf("the stage was computed %d times, and Run returned %v, error %v", computed, got, err)
		}
		must.Do(t, r.Close())
	}
}

var errDead = errors.New("dead")

// dyingStore is a store that simulates the death of its process: after a number of changes, all changes fail.
type dyingStore struct {
	*partd.File
	changesLeft atomic.Int64
}

// change calls f, which changes the store, unless the store has died.
func (d *dyingStore) change(f func() error) error {
	if d.changesLeft.Add(-1) < 0 {
		return errDead
	}
	return f()
}

func (d *dyingStore) Append(ctx context.Context, entries ...partd.Entry) error {
	return d.change(func() error { return d.File.Append(ctx, entries...) })
}

func (d *dyingStore) Delete(ctx context.Context, keys ...string) error {
	return d.change(func() error { return d.File.Delete(ctx, keys...) })
}

func (d *dyingStore) Set(ctx context.Context, key string, value []byte) error {
	return d.change(func() error { return d.File.Set(ctx, key, value) })
}

// TestDiesAtEachChange checks that a pipeline returns the right result after an earlier run died, whatever
// the number of changes before its death.
func TestDiesAtEachChange(t *testing.T) {
	recipe := newRecipe(t)
	for changes := int64(0); ; changes++ {
		dir := t.TempDir()
		dying := open(t, dir, &stage.Options{Parallel: 1})
		stage.WrapStore(dying, func(s partd.Partd) partd.Partd {
			store := &dyingStore{File: s.(*partd.File)}
			store.changesLeft.Store(changes)
			return store
		})
		_, runErr := recipe.pipeline().Run(t.Context(), dying)
		if runErr != nil && !errors.Is(runErr, errDead) {
			t.Fatalf("the dying run returned %v, want %v", runErr, errDead)
		}
		got, err := recipe.pipeline().Run(t.Context(), open(t, dir, nil))
		if b, _ := json.Marshal(got); err != nil || string(b) != wantResult {
			t.Fatalf("after a death at change %d: Run = %s, %v, want the result of an undisturbed run", changes, b, err)
		}
		if runErr == nil {
			if changes < 8 {
				t.Errorf("the pipeline stored its results in %d changes, want at least 8", changes)
			}
			return
		}
	}
}

// inBucket returns a child that stores tables under a prefix of a bucket, with the catalog in a
// directory.
func inBucket(t testing.TB, g *procs.Gateway, prefix string) child {
	return child{Tables: fmt.Sprintf("s3://bucket/%s?endpoint=http://%s", prefix, g.Addr), Catalog: t.TempDir(), Cache: t.TempDir()}
}

func (c child) newOptions(t testing.TB) *stage.Options {
	t.Helper()
	o, closeTables, err := c.options(t.Context())
	must.Do(t, err)
	t.Cleanup(func() { _ = closeTables() })
	return o
}

// TestS3 checks that results on S3 work like results in any other backend, even for processes with empty caches.
func TestS3(t *testing.T) {
	g := procs.StartGateway(t)
	t.Run("stored", func(t *testing.T) {
		testStored(t, func(t testing.TB) *stage.Options { return inBucket(t, g, "kept").newOptions(t) })
	})
	t.Run("GC", func(t *testing.T) {
		testGC(t, func(t testing.TB) *stage.Options { return inBucket(t, g, "collected").newOptions(t) })
	})
	t.Run("read by another process", func(t *testing.T) {
		c := inBucket(t, g, "elsewhere")
		c.Raw, c.Factor = newRecipe(t).raw, 2
		for n, want := range []int{6, 2} { // printed lines: four stages run, then none
			c.Dir, c.Cache = t.TempDir(), t.TempDir()
			lines, err := wait(c.start(t))
			if err != nil || len(lines) != want || lines[len(lines)-1] != "result "+wantResult {
				t.Errorf("process %d printed %q, %v, want %d lines", n+1, lines, err, want)
			}
		}
	})
	prefixes := 0
	testComputedOnce(t, "s3", func(t testing.TB) child {
		prefixes++
		return inBucket(t, g, fmt.Sprint("once", prefixes))
	})
}

// TestS3Damaged flips bits of the stored objects and cuts them short. For each damaged object, at least one run must
// fail, and no run may return a wrong result.
func TestS3Damaged(t *testing.T) {
	g := procs.StartGateway(t)
	c := inBucket(t, g, "damaged")
	recipe := newRecipe(t)
	recipe.isCached = func(string) bool { return true }
	run(t, open(t, t.TempDir(), c.newOptions(t)), recipe.pipeline())
	objects := tabletest.Paths(t, filepath.Join(g.Dir, "bucket"), "")
	if len(objects) < 16 {
		t.Fatalf("found only the objects %q, want at least 16", objects)
	}
	maxDamages := procs.Number(t, "PARTD_KILLS", 2) // of six
	for _, path := range objects {
		content := must.Get(os.ReadFile(path))(t)
		flip := func(position int) []byte {
			b := bytes.Clone(content)
			b[position] ^= 1
			return b
		}
		damages := 0
		for damage, damaged := range map[string][]byte{
			"bit of the first byte": flip(0), "bit in the middle": flip(len(content) / 2), "bit of the last byte": flip(len(content) - 1),
			"last byte missing": content[:len(content)-1], "second half missing": content[:len(content)/2], "empty": {},
		} {
			if damages++; damages > maxDamages {
				break // a map's order is random, so that other runs choose other damages
			}
			must.Do(t, os.WriteFile(path, damaged, 0o666))
			c.Cache = t.TempDir()
			o, closeTables, err := c.options(t.Context())
			if err == nil {
				r := open(t, t.TempDir(), o)
				for _, cached := range []string{"load double text last", "load double text", "load text"} { // each stage's result is read once
					recipe.isCached = func(name string) bool { return strings.Contains(cached, name) }
					got, runErr := recipe.pipeline().Run(t.Context(), r)
					if b, err := json.Marshal(got); runErr == nil && (err != nil || string(b) != wantResult) {
						t.Errorf("%s damaged (%s): the run returned the wrong result %s without an error; error of encoding it: %v", path, damage, b, err)
					}
					err = errors.Join(err, runErr)
				}
				must.Do(t, closeTables())
			}
			if err == nil {
				t.Errorf("%s damaged (%s): no run failed", path, damage)
			}
		}
		must.Do(t, os.WriteFile(path, content, 0o666))
	}
	if got := run(t, open(t, t.TempDir(), c.newOptions(t)), recipe.pipeline()); got != wantResult {
		t.Errorf("after all objects were restored, the pipeline returned %s, want %s", got, wantResult)
	}
}

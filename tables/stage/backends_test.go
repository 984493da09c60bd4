package stage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
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
	if _, err := r.GC(t.Context(), nil); err != nil {
		t.Errorf("GC failed: %v", err)
	}
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
			files := 0
			err := filepath.WalkDir(filepath.Join(dir, "results"), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || !strings.Contains(path, part) {
					return err
				}
				content, err := os.ReadFile(path)
				if files++; err == nil {
					err = damage(path, content)
				}
				return err
			})
			if err != nil || files != 1 {
				t.Fatal(files, err)
			}
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

package stage_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/stage"
)

// TestMissingData checks that a result is computed again if its data is missing, for example after an
// interrupted removal, or because another version of this package stored it.
func TestMissingData(t *testing.T) {
	store := partd.NewDict()
	r := open(t, t.TempDir(), &stage.Options{Store: store})
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
	var info string
	for k, err := range store.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(k.Key, "/info") {
			info = k.Key
		} else if err := store.Delete(t.Context(), k.Key); err != nil {
			t.Fatal(err)
		}
	}
	run(2)
	run(2)
	text, err := store.Get(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	infoStart, _, _ := strings.Cut(string(text[0]), `,"Data"`) // as stored by a version without the field Data
	if err := store.Set(t.Context(), info, []byte(infoStart+"}")); err != nil {
		t.Fatal(err)
	}
	run(3)
	run(3)
	if _, err := r.GC(t.Context(), &stage.GCOptions{TTL: 1}); err != nil {
		t.Errorf("GC failed: %v", err)
	}
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
				r, err := stage.Open(dir, &stage.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				if err != nil {
					t.Fatal(err)
				}
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
		r, err := stage.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Run(t.Context(), r); err != nil || fmt.Sprint(valuesOf(got)) != "[7]" || computed > 1 {
			t.Errorf("the stage was computed %d times, and Run returned %v, error %v", computed, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

package stage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/stage"
)

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
	var objects []string
	err := filepath.WalkDir(filepath.Join(g.Dir, "bucket"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			objects = append(objects, path)
		}
		return err
	})
	if err != nil || len(objects) < 16 {
		t.Fatalf("found only the objects %q, %v, want at least 16", objects, err)
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

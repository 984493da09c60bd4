package stage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/gateway"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/stores"
	"github.com/go-partd/partd/tables/stage"
)

// inBucket is a prefix of a bucket, whose catalog is in a directory.
func inBucket(t testing.TB, g *gateway.Gateway, prefix string) child {
	return child{Tables: fmt.Sprintf("s3://bucket/%s?endpoint=http://%s", prefix, g.Addr), Catalog: t.TempDir(), Cache: t.TempDir()}
}

func (c child) place(t testing.TB) *stage.Options {
	t.Helper()
	o, end, err := c.options(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = end() })
	return o
}

// What is kept on S3 is kept for other processes, whose caches are empty, as it is
// elsewhere.
func TestS3(t *testing.T) {
	g := gateway.Start(t)
	t.Run("kept", func(t *testing.T) {
		keptAt(t, func(t testing.TB) *stage.Options { return inBucket(t, g, "kept").place(t) })
	})
	t.Run("collected", func(t *testing.T) {
		collectedAt(t, func(t testing.TB) *stage.Options { return inBucket(t, g, "collected").place(t) })
	})
	t.Run("in a partd store", func(t *testing.T) {
		open := func(prefix string) func(testing.TB) *stage.Options {
			return func(t testing.TB) *stage.Options {
				s, err := stores.NewSet(cloud.Schemes()...).Open(t.Context(), fmt.Sprintf("s3://bucket/%s?memory=16MiB&endpoint=http://%s", prefix, g.Addr), nil)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = partd.Close(context.Background(), s) })
				return &stage.Options{Store: s}
			}
		}
		keptAt(t, open("store-kept"))
		collectedAt(t, open("store-collected"))
	})
	t.Run("read elsewhere", func(t *testing.T) {
		c := inBucket(t, g, "elsewhere")
		c.Raw, c.Factor = newRecipe(t).raw, 2
		for n, want := range []int{6, 2} { // lines: four stages run, then none
			c.Dir, c.Cache = t.TempDir(), t.TempDir()
			lines, err := c.start(t).wait()
			if err != nil || len(lines) != want || lines[len(lines)-1] != "result "+wanted {
				t.Errorf("process %d: %q, %v", n+1, lines, err)
			}
		}
	})
	n := 0
	computedOnce(t, "s3", func(t testing.TB) child {
		n++
		return inBucket(t, g, fmt.Sprint("once", n))
	})
}

// What is kept and has another bit, or is cut short, is an error of the stages that read
// it, and of no others.
func TestS3Damaged(t *testing.T) {
	g := gateway.Start(t)
	c := inBucket(t, g, "damaged")
	recipe := newRecipe(t)
	recipe.keep = func(string) bool { return true }
	run(t, open(t, t.TempDir(), c.place(t)), recipe.pipeline())
	var objects []string
	err := filepath.WalkDir(filepath.Join(g.Dir, "bucket"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			objects = append(objects, path)
		}
		return err
	})
	if err != nil || len(objects) < 16 {
		t.Fatal(objects, err)
	}
	for _, path := range objects {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := func(at int) []byte {
			b := bytes.Clone(whole)
			b[at] ^= 1
			return b
		}
		for what, damaged := range map[string][]byte{
			"first bit": flipped(0), "a bit": flipped(len(whole) / 2), "last bit": flipped(len(whole) - 1),
			"cut short": whole[:len(whole)-1], "half": whole[:len(whole)/2], "empty": {},
		} {
			if err := os.WriteFile(path, damaged, 0o666); err != nil {
				t.Fatal(err)
			}
			c.Cache = t.TempDir()
			o, end, err := c.options(t.Context())
			if err == nil {
				r := open(t, t.TempDir(), o)
				for _, kept := range []string{"load double text last", "load double text", "load text"} { // each is read
					recipe.keep = func(name string) bool { return strings.Contains(kept, name) }
					got, failed := recipe.pipeline().Run(t.Context(), r)
					if b, err := json.Marshal(got); failed == nil && (err != nil || string(b) != wanted) {
						t.Errorf("%s, %s: %s, %v", path, what, b, err)
					}
					err = errors.Join(err, failed)
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			}
			if err == nil {
				t.Errorf("%s, %s: nobody noticed", path, what)
			}
		}
		if err := os.WriteFile(path, whole, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := run(t, open(t, t.TempDir(), c.place(t)), recipe.pipeline()); got != wanted {
		t.Error(got)
	}
}

package tables

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var verifySteps = flag.Int("verifysteps", 40, "how many steps each run of TestVerifyAlwaysGood takes")

// Verify finds no damage after any sequence of operations, nor after the store is reopened.
func TestVerifyAlwaysGood(t *testing.T) {
	t.Parallel()
	for run := range uint64(4) {
		seed := uint64(time.Now().UnixNano()) + run
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			ctx, r := t.Context(), rand.New(rand.NewPCG(seed, 0))
			s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
			var log []string
			for range *verifySteps {
				b, name, all := s.Bucket("b"), string(rune('a'+r.IntN(2))), &MaintainOptions{Grace: -1, Keep: r.IntN(3)}
				steps := map[string]func() error{
					"put":     func() error { _, err := b.Put(ctx, name, rowsOf(from(r.Int64N(9), 3)...), PutReplace, nil); return err },
					"append":  func() error { _, err := b.Put(ctx, name, rowsOf(from(r.Int64N(9), 2)...), PutAppend, nil); return err },
					"fold":    func() error { _, err := s.Fold(ctx, nil); return err },
					"compact": func() error { _, err := s.Compact(ctx, nil); return err },
					"expire":  func() error { _, err := s.Expire(ctx, all); return err },
					"snapshot": func() error {
						_, err := b.Snapshot(ctx, "")
						return err
					},
					"restore": func() error {
						if found, err := b.Snapshots(ctx); err != nil || len(found) == 0 {
							return err
						} else {
							return b.Restore(ctx, found[r.IntN(len(found))].Name)
						}
					},
					"forget": func() error { return b.DeleteSnapshots(ctx) },
					"evolve": func() error {
						return b.Evolve(ctx, name, ColumnChange{Op: "add", Column: fmt.Sprint("c", r.Int64()), Type: "int64"})
					},
					"delete": func() error { return b.Delete(ctx, name) },
					"rows":   func() error { _, err := b.DeleteRows(ctx, name, filterOf(t, "n > 4")); return err },
				}
				kinds := []string{"put", "append", "append", "fold", "compact", "expire", "expire", "snapshot", "restore", "forget", "evolve", "delete", "rows"}
				kind := kinds[r.IntN(len(kinds))]
				log = append(log, kind+" "+name)
				var unfit *SchemaError // from an append to a table whose columns changed
				if err := steps[kind](); err != nil && !errors.Is(err, ErrNotFound) && !errors.As(err, &unfit) {
					t.Fatalf("%q: %v", log, err)
				}
				if found, _ := verified(t, s, VerifyOptions{}); len(found) > 0 {
					t.Fatalf("%q: %+v", log, found)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if found, _ := verified(t, mustOpen(t, s.Dir(), nil), VerifyOptions{}); len(found) > 0 {
				t.Fatalf("%q: %+v", log, found)
			}
		})
	}
}

// A snapshot needs no files of expired versions.
func TestVerifyAfterExpire(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), mustOpen(t, t.TempDir(), &Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(3) {
		mustPut(t, b, "t", PutReplace, i)
	}
	if _, err := b.Snapshot(ctx, "snap"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "t", PutReplace, 9)
	if r, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil || r.FilesRemoved == 0 {
		t.Fatal(r, err)
	}
	if found, _ := verified(t, s, VerifyOptions{}); len(found) > 0 {
		t.Error(found)
	}
	snap, err := b.Table(ctx, "t", AtSnapshot("snap"))
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := readAll(ctx, snap, nil); err != nil || len(rows) != 1 || rows[0] != 2 {
		t.Error(rows, err)
	}
}

// Verify reads each file of a store. It names every damaged file, including older metadata, and
// repairs it.
func TestVerifyEachFile(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
	b := s.Bucket("b")
	for i := range int64(3) {
		mustPut(t, b, "committed", PutReplace, i)
		mustPut(t, b, "folded", PutAppend, i)
		if _, err := s.Fold(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if _, err := b.Snapshot(ctx, "snap"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Evolve(ctx, "folded", ColumnChange{Op: "rename", Column: "s", To: "text"}); err != nil {
		t.Fatal(err)
	}
	needed := neededFiles(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	copied := mustOpen(t, good, nil)
	files, older := 0, 0
	err := filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		for _, how := range []string{"flipped", "truncated", "zeroed", "missing"} {
			was, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f := damages[how]
			if how == "zeroed" {
				f = func(b []byte) []byte { return make([]byte, len(b)) }
			}
			damage(t, path, f)
			s, err := Open(ctx, s.Dir(), &Options{FoldAge: -1})
			if err != nil {
				return err
			}
			found, _ := verified(t, s, VerifyOptions{Repair: copied.Copies()})
			if err := s.Close(); err != nil {
				return err
			}
			if !needed[path] {
				if len(found) > 0 {
					return fmt.Errorf("%s: %+v", how, found)
				}
				if err := os.WriteFile(path, was, 0o666); err != nil {
					return err
				}
				continue
			}
			now, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(now, was) || len(found) != 1 || found[0].File != path || found[0].State != Repaired {
				return fmt.Errorf("%s %s: %+v, %v", how, path, found, err)
			}
			if strings.HasSuffix(path, ".json") {
				older++
			}
		}
		return nil
	})
	if err != nil || files < 20 || older < 20 {
		t.Error(files, older, err)
	}
}

// neededFiles returns the files that a store's tables and snapshots refer to. It leaves out
// metadata that no newer metadata lists as previous, and metadata of tables created in the tail,
// which was never synced.
func neededFiles(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	ctx, needed := t.Context(), map[string]bool{}
	used, err := s.cat.References(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for path := range used {
		needed[path] = true
	}
	states, err := s.cat.States(ctx, "b")
	if err != nil || len(states) != 4 {
		t.Fatal(states, err)
	}
	for _, l := range states {
		now, err := s.cat.LoadAt(ctx, "b", l.Name, l.Location)
		if err != nil {
			t.Fatal(err)
		}
		for old := range now.Metadata().PreviousFiles() {
			path, _, err := s.cat.Local(old.MetadataFile)
			if err != nil {
				t.Fatal(err)
			}
			if _, synced, err := s.cat.FileAt(ctx, old.MetadataFile); err != nil {
				t.Fatal(err)
			} else if synced {
				needed[path] = true
			}
		}
	}
	return needed
}

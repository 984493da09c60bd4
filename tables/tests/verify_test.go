package tables_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestVerify checks that Verify finds every damaged file, names its table, and repairs it from a copy of the directory.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := tabletest.FullStore(t)
	must.Get(s.Bucket("one").Snapshot(t.Context(), "before"))(t)
	tabletest.Put(t, s.Bucket("one"), "twice", tables.PutReplace, 1)
	must.Do(t, s.Bucket("one").Delete(t.Context(), "plain")) // the snapshot still has it
	want := tabletest.StateOf(t, s)
	if findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 || r.Tables != 4 || r.Files < 20 || r.Bytes == 0 {
		t.Fatalf("Verify reported %+v with result %+v, want no findings, Tables 4, Files at least 20 and Bytes above 0", findings, r)
	}
	must.Do(t, s.Close())
	good := filepath.Join(t.TempDir(), "good")
	must.Do(t, os.CopyFS(good, os.DirFS(s.Dir())))
	s, copied := tabletest.Open(t, s.Dir(), nil), tabletest.Open(t, good, nil)
	for kind, paths := range tabletest.TableFiles(t, s, "one", "twice") {
		for damageName, f := range tabletest.Damages {
			path := paths[0] // the data file belongs to an old version
			before := must.Get(os.ReadFile(path))(t)
			tabletest.Damage(t, path, f)
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].File != path || findings[0].Table != "twice" || findings[0].Bucket != "one" || findings[0].State != tables.Damaged {
				t.Fatalf("%s %s: Verify reported %+v, want one damaged file of table twice", kind, damageName, findings)
			}
			if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("%s %s: Verify reported %+v, want one repaired file", kind, damageName, findings)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
				t.Fatalf("%s %s: the repaired file differs from the original; error: %v", kind, damageName, err)
			}
			if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 0 {
				t.Fatalf("%s %s: Verify after the repair reported %+v, want nothing", kind, damageName, findings)
			}
		}
	}
	tabletest.WantState(t, s, want)
	// A damaged copy is not used for a repair, and leaves no file.
	data := tabletest.TableFiles(t, s, "one", "twice")["data"]
	path := data[len(data)-1] // the other data files are equal, so they could repair each other
	relPath := must.Get(filepath.Rel(s.Dir(), path))(t)
	tabletest.Damage(t, path, tabletest.Damages["truncated"])
	tabletest.Damage(t, filepath.Join(good, relPath), tabletest.Damages["flipped"])
	listPaths := func() (all []string) {
		_ = filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		return all
	}
	before := listPaths()
	findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()})
	if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, "not repaired") || !strings.Contains(findings[0].Problem, relPath) {
		t.Errorf("Verify reported %+v, want a damaged file that was not repaired", findings)
	}
	wrongSource := func(_ context.Context, _ tables.File) (io.ReadCloser, error) {
		return os.Open(filepath.Join(good, relPath))
	}
	findings, _ = tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: wrongSource})
	if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, "not repaired: "+icecat.ErrContent.Error()) {
		t.Errorf("Verify reported %+v, want a damaged file that was not repaired because of ErrContent", findings)
	}
	if !slices.Equal(listPaths(), before) {
		t.Error("a rejected copy left files in the data directory")
	}
}

// TestVerifyForeign checks that Verify reports files from other programs as unverified, or as damaged if they are
// unreadable.
func TestVerifyForeign(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
	parts := tabletest.TableFiles(t, s, "", "t")
	for _, kind := range []string{"metadata", "list", "manifest", "data"} {
		tabletest.ExecInCatalog(t, s.Dir(), `DELETE FROM partd_files WHERE path='file://' || ?`, parts[kind][0])
	}
	findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: s.Copies()})
	if len(findings) != 4 || r.Unverified != 4 || findings[0].State != tables.Unverified {
		t.Errorf("Verify reported %+v, want 4 unverified files", findings)
	}
	for _, kind := range []string{"data", "manifest", "list", "metadata"} {
		for damageName, f := range tabletest.Damages {
			if damageName == "flipped" || kind == "manifest" && damageName == "longer" || kind == "list" && damageName == "longer" {
				continue // without a checksum, this damage is undetectable
			}
			before := must.Get(os.ReadFile(parts[kind][0]))(t)
			tabletest.Damage(t, parts[kind][0], f)
			findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: s.Copies()})
			last := findings[len(findings)-1]
			if r.Damaged != 1 || last.State != tables.Damaged || last.File != parts[kind][0] || last.Table != "t" {
				t.Errorf("%s %s: Verify reported %+v, want one damaged file", kind, damageName, findings)
			}
			must.Do(t, os.WriteFile(parts[kind][0], before, 0o666))
		}
	}
}

// flipState returns the tables, rows and snapshots of a store as text. Errors are in the text, after "error".
func flipState(t *testing.T, dir string, o tables.Options) (state, log string) {
	t.Helper()
	var logged bytes.Buffer
	o.FoldAge, o.Logger = -1, slog.New(slog.NewTextHandler(&logged, nil))
	place := dir
	if _, err := os.Stat(filepath.Join(dir, "objects")); err == nil {
		place = bucketURL
		inBucket(&o, dir)
	}
	s, err := tables.Open(t.Context(), place, &o)
	if err != nil {
		return fmt.Sprintln("error", err), logged.String()
	}
	defer s.Close() //nolint:errcheck // the log has errors
	b := s.Bucket("b")
	for info, err := range b.Tables(t.Context(), nil) {
		if err != nil {
			state += fmt.Sprintln("error", err)
			continue
		}
		rows, _, err := tabletest.Read(t.Context(), b, info.Name)
		if err != nil {
			state += fmt.Sprintln("error", info.Name, err)
			continue
		}
		state += fmt.Sprintln(info.Name, info.Metadata, rows)
	}
	snapshots, err := b.Snapshots(t.Context())
	if err != nil {
		state += fmt.Sprintln("error", err)
	}
	for _, snap := range snapshots {
		rows, err := tabletest.ReadSnapshot(t.Context(), b, snap.Name, "t1")
		if err != nil {
			state += fmt.Sprintln("error", err)
		} else {
			state += fmt.Sprintln(snap.Name, snap.Tables, rows)
		}
	}
	return state, logged.String()
}

const bucketURL = "s3://bucket/tables"

// inBucket sets the bucket and the directories of a store, all below dir.
func inBucket(o *tables.Options, dir string) {
	o.Catalog, o.CacheDir, o.TailDir = filepath.Join(dir, "catalog"), filepath.Join(dir, "cache"), filepath.Join(dir, "tail")
	o.OpenBucket = func(context.Context, string) (objstore.Bucket, error) {
		return objstore.OpenDirectory(filepath.Join(dir, "objects"))
	}
}

// fillFlipStore puts 12 tables and a snapshot into a store, with some rows in the tail.
func fillFlipStore(t *testing.T, s *tables.Store) {
	t.Helper()
	b := s.Bucket("b")
	for i := range 12 {
		name := fmt.Sprint("t", i)
		tabletest.Put(t, b, name, tables.PutAppend, tabletest.Sequence(0, 100)...)
		if i%3 > 0 {
			tabletest.Fold(t, s)
			tabletest.DeleteRows(t, b, name, fmt.Sprint("n < ", i))
		}
	}
	tabletest.Snapshot(t, b, "s1")
	must.Do(t, b.Table("t1").ChangeMetadata(t.Context(), tables.MetadataChange{Set: map[string]any{"k": "v"}, Replace: true}))
	for i := range 4 {
		tabletest.Put(t, b, fmt.Sprint("t", i), tables.PutAppend, 1000)
	}
}

// sameLines returns how many lines of a are also in b.
func sameLines(a, b string) (n int) {
	for line := range strings.Lines(a) {
		if strings.Contains(b, line) {
			n++
		}
	}
	return n
}

// TestFlippedBits flips single bits in all files of a store that was killed, of one that was closed, and of one in a
// bucket. Reading must return the right rows or an error, unless the last record of a log cannot be told from a torn
// one, which the log says. A rebuilt catalog is complete, or the log says what is lost.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	flips := tabletest.Rounds(t, "PARTD_FLIPS", 3)
	closed, killed, remote := filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "killed"), filepath.Join(t.TempDir(), "remote")
	s := tabletest.Open(t, closed, &tables.Options{FoldAge: -1})
	fillFlipStore(t, s)
	must.Do(t, os.CopyFS(killed, os.DirFS(closed)))
	must.Do(t, s.Close())

	o := tables.Options{FoldAge: -1}
	inBucket(&o, remote)
	s = must.Get(tables.Open(t.Context(), bucketURL, &o))(t)
	fillFlipStore(t, s)
	must.Do(t, s.Close())

	random := rand.New(rand.NewPCG(1, 2))
	for _, source := range []string{killed, closed, remote} {
		kinds := map[string][]string{}
		must.Do(t, filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
			if info, infoErr := d.Info(); err == nil && infoErr == nil && info.Mode().IsRegular() && info.Size() > 0 {
				name, _ := filepath.Rel(source, path)
				kind := name
				if depth := strings.Count(name, "/"); depth > 1 {
					kind = strings.Split(name, "/")[0] + filepath.Ext(name)
				}
				kinds[kind] = append(kinds[kind], name)
			}
			return err
		}))
		intact := filepath.Join(t.TempDir(), "intact")
		must.Do(t, os.CopyFS(intact, os.DirFS(source)))
		want, _ := flipState(t, intact, tables.Options{})
		if n := strings.Count(want, "\n"); n != 13 || strings.Contains(want, "error") {
			t.Fatalf("the state of %s is\n%s", source, want)
		}
		outcomes := map[string]int{}
		for kind, names := range kinds {
			for range flips {
				name := names[random.IntN(len(names))]
				dir := filepath.Join(t.TempDir(), "flipped")
				must.Do(t, os.CopyFS(dir, os.DirFS(source)))
				content := must.Get(os.ReadFile(filepath.Join(dir, name)))(t)
				used := len(bytes.TrimRight(content, "\x00")) // log files end with zeros
				if used == 0 {
					continue
				}
				offset, bit := random.IntN(used), byte(1)<<random.IntN(8)
				tabletest.Damage(t, filepath.Join(dir, name), func(b []byte) []byte { b[offset] ^= bit; return b })
				if strings.HasPrefix(kind, "objects") {
					must.Do(t, os.RemoveAll(filepath.Join(dir, "cache")))
				}
				got, log := flipState(t, dir, tables.Options{})
				outcome := "error"
				switch lines := strings.Split(got, "\n"); {
				case got == want:
					outcome = "same"
				case strings.Contains(log, "dropped") || strings.Contains(log, "torn"):
					outcome = "said"
				case slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "error") && !strings.Contains(want, l+"\n") }), !strings.Contains(got, "error"):
					t.Errorf("bit %d of byte %d of %s, %s: the state is\n%swant an error or\n%slog:\n%s", bit, offset, name, filepath.Base(source), got, want, log)
				}
				if strings.HasPrefix(filepath.Base(kind), "catalog.db") && outcome == "error" {
					rebuilt, log := flipState(t, dir, tables.Options{Rebuild: true})
					if isLossy := strings.Contains(log, "are lost"); !isLossy && rebuilt != want || isLossy && strings.Contains(rebuilt, "error") {
						t.Errorf("bit %d of byte %d of %s, %s, rebuilt: the state is\n%swant\n%slog:\n%s", bit, offset, name, filepath.Base(source), rebuilt, want, log)
					} else if isLossy && rebuilt != want {
						outcome = fmt.Sprintf("rebuilt with %d of %d lines", sameLines(rebuilt, want), strings.Count(want, "\n"))
					}
				}
				outcomes[kind+" "+outcome]++
				must.Do(t, os.RemoveAll(dir))
			}
		}
		t.Log(filepath.Base(source), outcomes)
	}
}

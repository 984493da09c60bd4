package stores_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/stores"
)

// fullStores maps schemes to options. A trailing colon only makes the key unique.
var fullStores = map[string]string{
	"file": "", "file:": "?sync=true", "zstd+file": "", "buffer+file": "?buffer.memory=1MiB",
	"buffer+file:": "?buffer.memory=1MiB&file.sync=true", "zstd+buffer+zlib+file": "?buffer.memory=1MiB",
}

// diskTest is a test of a store on a small disk, with the expected contents.
type diskTest struct {
	*testing.T
	ctx   context.Context
	dir   string
	store partd.Partd
	want  map[string][]byte
}

// forEachDisk runs a test with each store on each kind of disk.
func forEachDisk(t *testing.T, test func(f *diskTest)) {
	for _, kind := range vfstest.Kinds {
		for scheme, options := range fullStores {
			t.Run(fmt.Sprintf("%s/%s/%v", kind, scheme, strings.Contains(options, "sync")), func(t *testing.T) {
				t.Parallel()
				dir := vfstest.Mount(t, kind, 16<<20)
				url := strings.TrimSuffix(scheme, ":") + ":" + filepath.Join(dir, "store") + options
				f := &diskTest{T: t, ctx: t.Context(), dir: dir, want: map[string][]byte{}}
				f.open(url)
				for i := range 20 {
					if f.append(fmt.Sprint("key ", i), 1500) != nil {
						t.Fatal("Append failed although the disk has space")
					}
				}
				if err := partd.Sync(f.ctx, f.store); err != nil {
					t.Fatal(err)
				}
				test(f)
				if err := partd.Close(f.ctx, f.store); err != nil {
					t.Fatal(err)
				}
				f.open(url)
				f.check("after reopening")
				if err := partd.Close(f.ctx, f.store); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func (f *diskTest) open(url string) {
	f.Helper()
	var err error
	if f.store, err = stores.Open(f.ctx, url); err != nil {
		f.Fatal(err)
	}
}

// randomBytes returns n bytes that do not compress.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// tooMuch returns a value that does not fit on the disk.
var tooMuch = sync.OnceValue(func() []byte { return randomBytes(18 << 20) })

// append appends to a key and, if the store acknowledges that, to the expected value. An error
// must have a known outcome, and say that the disk is full.
func (f *diskTest) append(key string, n int) error {
	f.Helper()
	value := randomBytes(n)
	err := f.store.Append(f.ctx, partd.Entry{Key: key, Value: value}, partd.Entry{Key: key + "'", Value: value})
	if err == nil {
		f.want[key] = append(f.want[key], value...)
		f.want[key+"'"] = append(f.want[key+"'"], value...)
	}
	f.checkDefinite("append", err)
	return err
}

// apply makes a change that is too large for the disk. The change has a Tag, as a change that can be repeated.
func (f *diskTest) apply(change partd.Change, key string) error {
	f.Helper()
	a, ok := f.store.(partd.Applier)
	if !ok {
		return errors.ErrUnsupported
	}
	session, err := a.NewSession(f.ctx)
	if err != nil {
		return err
	}
	_, err = a.Apply(f.ctx, partd.Tag{Session: session, Number: 1}, partd.Operation{
		Change: change, Entries: []partd.Entry{{Key: key, Value: tooMuch()}},
	})
	return err
}

// checkDefinite fails the test if err has an unknown outcome or a cause other than a full disk.
func (f *diskTest) checkDefinite(op string, err error) {
	f.Helper()
	if err != nil && (errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, syscall.ENOSPC)) {
		f.Fatalf("%s = %v, want ENOSPC with a known outcome", op, err)
	}
}

func (f *diskTest) check(label string) {
	f.Helper()
	for key, want := range f.want {
		got, err := f.store.Get(f.ctx, key)
		if err != nil {
			f.Fatalf("%s: Get: %v", label, err)
		}
		if !bytes.Equal(got[0], want) {
			f.Fatalf("%s: key %q has the wrong content: %d bytes, want %d", label, key, len(got[0]), len(want))
		}
	}
}

// TestFullDisk checks that on a full disk, changes either fail without effect or are kept. Once there
// is space again, the store must work, and have lost nothing that it acknowledged.
func TestFullDisk(t *testing.T) {
	forEachDisk(t, func(f *diskTest) {
		freeSpace := vfstest.Fill(t, f.dir)
		numRefused := 0
		for round := range 8 {
			for _, n := range []int{1, 700, 5000, 100_000} {
				for _, key := range []string{fmt.Sprint("key ", round), fmt.Sprint("new ", round, n)} {
					if f.append(key, n) != nil {
						numRefused++
					}
				}
			}
			key := fmt.Sprint("key ", round)
			if err := partd.Set(f.ctx, f.store, key, randomBytes(9000)); err == nil {
				f.want[key] = randomBytes(9000)
			} else {
				f.checkDefinite("set", err)
			}
			key = fmt.Sprint("once ", round)
			if err := partd.SetOnce(f.ctx, f.store, key, randomBytes(9000)); err == nil {
				f.want[key] = randomBytes(9000)
			} else {
				f.checkDefinite("set once", err)
			}
			f.checkDefinite("flush", ignoreUnsupported(partd.Flush(f.ctx, f.store)))
		}
		if numRefused == 0 {
			t.Fatal("every append succeeded, so the disk was not full")
		}
		f.check("on the full disk")
		for key := range f.want {
			f.checkDefinite("delete", partd.Delete(f.ctx, f.store, key, key+"'"))
			values, err := f.store.Get(f.ctx, key, key+"'")
			if err != nil {
				t.Fatal(err)
			}
			if len(values[0])+len(values[1]) == 0 {
				delete(f.want, key)
				delete(f.want, key+"'")
			}
			break
		}
		freeSpace()
		f.check("with space again")
		for i := range 20 {
			if err := f.append(fmt.Sprint("key ", i), 3000); err != nil {
				t.Fatal(err)
			}
		}
		if err := partd.Sync(f.ctx, f.store); err != nil {
			t.Fatal(err)
		}
		f.check("at the end")
	})
}

// TestFailedChangeUsesNoSpace checks that a change that fails for lack of space leaves space for smaller ones.
func TestFailedChangeUsesNoSpace(t *testing.T) {
	forEachDisk(t, func(f *diskTest) {
		const journal = 1 << 20 // File's journal may keep this much
		for _, change := range []struct {
			name string
			do   func() error
		}{
			{"append to a key", func() error { return f.append("key 0", 9<<20) }},
			{"append to a new key", func() error { return f.append("large", 9<<20) }},
			{"append to many keys", func() error {
				var entries []partd.Entry
				for i := range 40 {
					entries = append(entries, partd.Entry{Key: fmt.Sprint("many ", i), Value: randomBytes(500_000)})
				}
				return f.store.Append(f.ctx, entries...)
			}},
			{"set", func() error { return partd.Set(f.ctx, f.store, "key 1", tooMuch()) }},
			{"set once", func() error { return partd.SetOnce(f.ctx, f.store, "new", tooMuch()) }},
			{"apply an append", func() error { return f.apply(partd.ChangeAppend, "key 3") }},
			{"apply a set", func() error { return f.apply(partd.ChangeSet, "new") }},
		} {
			freeBefore := vfstest.Free(t, f.dir)
			err := change.do()
			if errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			f.checkDefinite(change.name, err)
			if err == nil {
				t.Fatalf("%s succeeded although it does not fit on the disk", change.name)
			}
			if freeAfter := vfstest.Free(t, f.dir); freeAfter < freeBefore-journal {
				t.Fatalf("%s: %d bytes were free before the failure, and %d after it", change.name, freeBefore, freeAfter)
			}
			if err := partd.SetOnce(f.ctx, f.store, "key 2", randomBytes(1<<20)); err != nil {
				t.Fatal("SetOnce of an existing key:", err)
			}
			f.check(change.name)
		}
		freeBefore := vfstest.Free(t, f.dir)
		for range 100 { // the key exists, so these have no effect
			if err := partd.SetOnce(f.ctx, f.store, "key 2", randomBytes(200_000)); err != nil {
				t.Fatal(err)
			}
		}
		if freeAfter := vfstest.Free(t, f.dir); freeAfter < freeBefore-journal {
			t.Errorf("%d bytes were free before 100 changes without effect, and %d after them", freeBefore, freeAfter)
		}
		for i := range 200 {
			if err := f.append(fmt.Sprint("key ", i%20), 1500); err != nil {
				t.Fatalf("small append %d: %v", i, err)
			}
		}
	})
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
